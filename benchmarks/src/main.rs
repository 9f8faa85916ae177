//! Measures keylane beside other ways to read the same topic, on a real Kafka: `cargo run --release
//! -p keylane-benchmarks`.
//!
//! Each arm runs in a process of its own, in turn (A B C A B C …), so that CPU and memory are its
//! own and a change of the machine's pace affects every arm. See the README beside this crate.

mod arms;
mod bars;
mod compare;
mod machine;
mod measure;
mod peers;
mod results;
mod scenario;
mod table;
mod topic;

use std::error::Error;
use std::path::PathBuf;

use arms::Arm;
use clap::{Args, Parser, Subcommand};
use measure::{Failure, Job, Sample};

#[derive(Parser)]
#[command(
    about = "Measures keylane beside bare consumer loops, hand-written consumers and its peers"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Mode>,
    #[command(flatten)]
    plan: Plan,
}

#[derive(Subcommand)]
enum Mode {
    /// Lists the scenarios and their arms.
    List,
    /// Runs one arm once and prints its sample as JSON.
    #[command(hide = true)]
    Arm {
        /// Which.
        name: String,
        /// The job, as JSON.
        job: String,
    },
}

/// What to compare.
#[derive(Args, Clone)]
struct Plan {
    /// Scenarios, by name; a name that ends in `*` stands for all that begin so (default: all).
    #[arg(long, value_delimiter = ',')]
    scenario: Vec<String>,
    /// Arms, by name: of those that a scenario is about, only these (default: all of them).
    #[arg(long, value_delimiter = ',')]
    arms: Vec<String>,
    /// How often each arm runs.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Multiplies the number of records of every scenario.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Seconds after which a run is cut off; its rate is that of what was done.
    #[arg(long, default_value_t = 20)]
    max_seconds: u64,
    /// A Kafka that runs already; else one is started.
    #[arg(long)]
    bootstrap: Option<String>,
    /// Where the samples and the table go.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/results"))]
    out: PathBuf,
    /// The name of their files.
    #[arg(long, default_value = "latest")]
    label: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    let cli = Cli::parse();
    match cli.command {
        Some(Mode::Arm { name, job }) => {
            let sample = run_arm(&name, &job).map_err(|error| error.to_string())?;
            println!("{}", serde_json::to_string(&sample)?);
            Ok(())
        }
        Some(Mode::List) => {
            for scenario in scenario::catalogue(0.0) {
                let arms: Vec<&str> = scenario.arms.iter().map(|arm| arm.name()).collect();
                println!(
                    "{}: {}\n    {}",
                    scenario.name,
                    scenario.about,
                    arms.join(", ")
                );
            }
            Ok(())
        }
        None => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?
            .block_on(compare::compare(&cli.plan)),
    }
}

fn run_arm(name: &str, job: &str) -> Result<Sample, Failure> {
    let arm = Arm::named(name).ok_or_else(|| format!("there is no arm {name}"))?;
    let job: Job = serde_json::from_str(job)?;
    arm.run(&job)
}
