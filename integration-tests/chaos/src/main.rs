//! `cargo run --release -p keylane-chaos -- --seed S --minutes M`: see the README of this folder.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;
use keylane_chaos::{
    check::Report,
    options::Options,
    programs::name_of_this,
    results::{Results, Run},
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
        let report = check(directory)?;
        println!("{}", serde_json::to_string(&report)?);
        return Ok(report.is_clean());
    }
    if let Some(results) = &options.table {
        print!("{}", table(&std::fs::read_to_string(results)?)?);
        return Ok(true);
    }
    let seeds = options.seed..options.seed + options.seeds.max(1);
    if options.schedule {
        for seed in seeds {
            println!(
                "{}",
                serde_json::to_string_pretty(&schedule(options, seed, 3))?
            );
        }
        return Ok(true);
    }
    let (version, words) = (name_of_this()?, options.in_words());
    let protocol = serde_json::to_value(options.protocol)?;
    let run = Run {
        protocol: &protocol,
        version: &version,
        options: &words,
    };
    let results = options
        .results
        .as_deref()
        .map(|path| Results::open(path, run))
        .transpose()?;
    // Started for the first seed that is not there yet.
    let (mut kafka, mut clean, mut failed) = (None, true, None);
    for seed in seeds {
        if let Some(kept) = results.as_ref().and_then(|results| results.of(seed)) {
            eprintln!(
                "seed {seed}, {:?}: there is a line of it already",
                options.protocol
            );
            clean &= kept;
            continue;
        }
        let on = match kafka.take() {
            Some(on) => on,
            None => start(options)?,
        };
        let outcome = run_one(&on, options, seed).await;
        let mut line = match &outcome {
            Ok(report) => serde_json::to_value(report)?,
            Err(error) => {
                serde_json::json!({ "seed": seed, "protocol": protocol, "not_tried": error.to_string() })
            }
        };
        (line["version"], line["options"]) = (version.as_str().into(), words.as_str().into());
        println!("{line}");
        if let Some(results) = &results {
            results.add(&line)?;
        }
        match outcome {
            Ok(report) => {
                clean &= report.is_clean();
                kafka = Some(on);
            }
            // Whatever was broken may be so still: the next seed gets brokers of its own.
            Err(error) => failed = Some(error),
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

async fn run_one(kafka: &Kafka, options: &Options, seed: u64) -> Result<Report, Failure> {
    let directory = directory(options, seed)?;
    eprintln!(
        "seed {seed}, {:?}: journals, logs and schedule are in {}",
        options.protocol,
        directory.display()
    );
    if directory.exists() && options.directory.is_some() {
        // Of a run that was interrupted.
        std::fs::remove_dir_all(&directory)?;
    }
    run(kafka, options, seed, &directory).await?;
    let report = check(&directory)?;
    if report.is_clean() && !options.keep {
        std::fs::remove_dir_all(&directory)?;
    }
    Ok(report)
}

fn directory(options: &Options, seed: u64) -> Result<PathBuf, Failure> {
    match &options.directory {
        Some(directory) => {
            Ok(directory.join(format!("{:?}-{seed}", options.protocol).to_lowercase()))
        }
        None => Ok(tempfile::Builder::new()
            .prefix(&format!("keylane-chaos-{seed}-"))
            .tempdir()?
            .keep()),
    }
}

fn check(directory: &Path) -> Result<Report, Failure> {
    let report = Report::of_run(directory, |finding| eprintln!("{finding}"))?;
    if !report.is_clean() {
        eprintln!(
            "VIOLATIONS {:?}: see {}",
            report.violations,
            directory.display()
        );
    }
    Ok(report)
}
