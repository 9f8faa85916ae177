//! Measures keylane beside other ways to read the same topic, on a real Kafka: `cargo run --release -p keylane-benchmarks`.
//!
//! Each arm runs in a process of its own, in turn (A B C A B C …), so that CPU and memory are its own and a change of the
//! machine's pace meets every arm.

mod arms;
mod sample;
mod table;
mod topic;
mod usage;

use std::error::Error;
use std::process::Command;

use arms::{Arm, Job};
use clap::{Args, Parser, Subcommand};
use keylane_integration_tests::kafka::{Found, Kafka, Nodes};
use sample::Sample;

#[derive(Parser)]
#[command(about = "Measures keylane beside bare consumer loops")]
struct Cli {
    #[command(subcommand)]
    command: Option<Mode>,
    #[command(flatten)]
    plan: Plan,
}

#[derive(Subcommand)]
enum Mode {
    /// Runs one arm once and prints its sample as JSON.
    #[command(hide = true)]
    Arm {
        /// Which.
        name: String,
        #[command(flatten)]
        job: Job,
    },
}

#[derive(Args)]
struct Plan {
    /// Records in the topic.
    #[arg(long, default_value_t = 300_000)]
    records: u64,
    /// Partitions of the topic.
    #[arg(long, default_value_t = 8)]
    partitions: i32,
    /// Distinct keys, evenly used.
    #[arg(long, default_value_t = 1_000)]
    keys: u64,
    /// Bytes of a value.
    #[arg(long, default_value_t = 100)]
    value_bytes: usize,
    /// How often each arm runs.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Attempts in flight per partition (keylane).
    #[arg(long, default_value_t = 32)]
    concurrency: usize,
    /// Milliseconds each record waits (keylane).
    #[arg(long, default_value_t = 0)]
    wait_millis: u64,
    /// Arms, by name (default: all).
    #[arg(long, value_delimiter = ',')]
    arms: Vec<String>,
    /// A Kafka that runs already; else one is started.
    #[arg(long)]
    bootstrap: Option<String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let cli = Cli::parse();
    match cli.command {
        Some(Mode::Arm { name, job }) => {
            let sample =
                tokio::task::spawn_blocking(move || run_arm(&name, &job)).await?.map_err(|error| error.to_string())?;
            println!("{}", serde_json::to_string(&sample)?);
            Ok(())
        }
        None => compare(cli.plan).await,
    }
}

type Failure = Box<dyn Error + Send + Sync>;

fn run_arm(name: &str, job: &Job) -> Result<Sample, Failure> {
    let arm = Arm::named(name).ok_or_else(|| format!("there is no arm {name}"))?;
    arm.run(job)
}

async fn compare(plan: Plan) -> Result<(), Box<dyn Error>> {
    let kafka = match &plan.bootstrap {
        Some(servers) => Kafka::connect(servers, Nodes::One),
        None => Kafka::find(Nodes::One),
    };
    let Found::Running(kafka) = kafka else {
        return Err("no kafka to measure on: set --bootstrap, or install java and mvn".into());
    };
    let arms: Vec<Arm> = match plan.arms.is_empty() {
        true => Arm::ALL.to_vec(),
        false => plan
            .arms
            .iter()
            .map(|name| Arm::named(name).ok_or_else(|| format!("there is no arm {name}")))
            .collect::<Result<_, _>>()?,
    };
    let topic = kafka.unique("benchmark");
    kafka.create_topic(&topic, plan.partitions, 1, &[]).await?;
    topic::fill(kafka.bootstrap_servers(), &topic, plan.records, plan.keys, plan.value_bytes)?;
    let mut samples: Vec<(Arm, Vec<Sample>)> = arms.iter().map(|arm| (*arm, Vec::new())).collect();
    for round in 0..plan.rounds {
        for (arm, samples) in &mut samples {
            let sample = run_apart(*arm, &plan, &kafka, &topic)?;
            eprintln!("round {} {}: {sample:?}", round + 1, arm.name());
            samples.push(sample);
        }
    }
    println!("{}", table::render(&samples));
    Ok(())
}

fn run_apart(arm: Arm, plan: &Plan, kafka: &Kafka, topic: &str) -> Result<Sample, Box<dyn Error>> {
    let output = Command::new(std::env::current_exe()?)
        .args(["arm", arm.name(), "--bootstrap-servers", kafka.bootstrap_servers()])
        .args(["--topic", topic, "--group", &kafka.unique(arm.name())])
        .args(["--job-records", &plan.records.to_string()])
        .args(["--job-concurrency", &plan.concurrency.to_string()])
        .args(["--job-wait-millis", &plan.wait_millis.to_string()])
        .stderr(std::process::Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("{} failed: {}", arm.name(), output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
