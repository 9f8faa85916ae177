//! `cargo run --release -p keylane-chaos -- --seed S --minutes M`: see the README of this folder.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;
use keylane_chaos::{
    check::{History, Report},
    options::Options,
    run::{run, schedule},
    table::table,
};
use keylane_integration_tests::kafka::{Extras, Found, Kafka, Nodes};

type Failure = Box<dyn std::error::Error>;

/// What could not be tried is neither kept nor broken.
const NOT_TRIED: u8 = 2;

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    match go(&Options::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(NOT_TRIED)
        }
    }
}

/// Whether every promise was kept.
async fn go(options: &Options) -> Result<bool, Failure> {
    if let Some(directory) = &options.check {
        return check(directory);
    }
    if let Some(results) = &options.table {
        print!("{}", table(&std::fs::read_to_string(results)?)?);
        return Ok(true);
    }
    let seeds = options.seed..options.seed + options.seeds.max(1);
    if options.schedule {
        for seed in seeds {
            println!("{}", serde_json::to_string_pretty(&schedule(options, seed, 3))?);
        }
        return Ok(true);
    }
    let (mut kafka, mut clean, mut failed) = (start(options)?, true, None);
    for seed in seeds {
        match run_one(&kafka, options, seed).await {
            Ok(kept) => clean &= kept,
            Err(error) => {
                let (protocol, not_tried) = (options.protocol, error.to_string());
                println!("{}", serde_json::json!({ "seed": seed, "protocol": protocol, "not_tried": not_tried }));
                failed = Some(error);
                // Whatever was broken may be so still.
                drop(kafka);
                kafka = start(options)?;
            }
        }
    }
    failed.map_or(Ok(clean), Err)
}

fn start(options: &Options) -> Result<Kafka, Failure> {
    let found = match &options.bootstrap {
        Some(servers) => Kafka::connect(servers, Nodes::Three),
        None => Kafka::start_with(Nodes::Three, &Extras::quick_sessions()),
    };
    match found {
        Found::Running(kafka) => Ok(kafka),
        Found::Unavailable(reason) => Err(reason.into()),
    }
}

async fn run_one(kafka: &Kafka, options: &Options, seed: u64) -> Result<bool, Failure> {
    let directory = directory(options, seed)?;
    eprintln!("seed {seed}, {:?}: journals, logs and schedule are in {}", options.protocol, directory.display());
    run(kafka, options, seed, &directory).await?;
    let clean = check(&directory)?;
    if clean && !options.keep {
        std::fs::remove_dir_all(&directory)?;
    }
    Ok(clean)
}

fn directory(options: &Options, seed: u64) -> Result<PathBuf, Failure> {
    match &options.directory {
        Some(directory) => Ok(directory.join(format!("{:?}-{seed}", options.protocol).to_lowercase())),
        None => Ok(tempfile::Builder::new().prefix(&format!("keylane-chaos-{seed}-")).tempdir()?.keep()),
    }
}

fn check(directory: &Path) -> Result<bool, Failure> {
    let history = History::load(directory)?;
    let report = Report::of(&history, |finding| eprintln!("{finding}"));
    println!("{}", serde_json::to_string(&report)?);
    if !report.is_clean() {
        eprintln!("VIOLATIONS {:?}: see {}", report.violations, directory.display());
    }
    Ok(report.is_clean())
}
