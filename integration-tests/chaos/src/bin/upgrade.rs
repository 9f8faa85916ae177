//! `cargo run --release -p keylane-chaos --bin keylane-upgrade -- --from REV`: rolls a group, under
//! load, from the version of a commit to this one and back. See the README of this package.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, ValueEnum};
use keylane_chaos::{
    check::{History, Report},
    evidence,
    options::Options,
    programs::{Commit, Programs, name_of_this},
    run::upgrade,
    settings::Protocol,
};
use keylane_integration_tests::kafka::{Extras, Found, Kafka, Nodes};
use serde::Serialize;

type Failure = Box<dyn std::error::Error>;

/// What could not be tried is neither kept nor broken.
const NOT_TRIED: u8 = 2;

/// Rolls a group from the version of a commit to this one and back, under load, on each group
/// protocol, and checks that no record is lost, that keys keep their order and that nothing comes
/// twice.
///
/// Prints one line of JSON for each protocol to the standard output, all else to the standard
/// error. Ends with 0 where every promise was kept, with 1 where one was broken, with 2 where it
/// could not be tried or a version does not work in the other's group.
#[derive(Debug, Parser)]
struct Arguments {
    /// The version before: a tag, a branch or a commit of this repository.
    #[arg(long)]
    from: String,
    /// The group protocols; all three unless said.
    #[arg(long, value_enum)]
    protocol: Vec<Protocol>,
    /// What records are written, and the members' settings.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long records are written at least; they are until the group has been rolled back.
    #[arg(long, default_value_t = 0.5)]
    minutes: f64,
    /// Kill members of either version (`kill -9`) while both are in the group.
    #[arg(long)]
    kills: bool,
    /// Members of the group.
    #[arg(long, default_value_t = 3)]
    members: usize,
    /// Records a second.
    #[arg(long, default_value_t = 200)]
    rate: u64,
    /// The brokers of a Kafka that runs already, three at least; without it three are started.
    #[arg(long)]
    bootstrap: Option<String>,
    /// Keep journals and logs also where all is well.
    #[arg(long)]
    keep: bool,
}

/// What a run came to.
#[derive(Serialize)]
struct Line<'a> {
    from: &'a str,
    to: &'a str,
    /// Commits whose metadata a member could not use: what one version wrote and the other does not
    /// read. It repeats work.
    metadata_ignored: usize,
    #[serde(flatten)]
    report: Report,
}

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    match go(&Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(NOT_TRIED)
        }
    }
}

async fn go(arguments: &Arguments) -> Result<bool, Failure> {
    let (before, this) = (Commit::find(&arguments.from)?, name_of_this()?);
    let programs = Programs::build(&before)?;
    if programs.are_the_same()? {
        eprintln!(
            "the members of {} and {this} are the same program",
            arguments.from
        );
    }
    let found = match &arguments.bootstrap {
        Some(servers) => Kafka::connect(servers, Nodes::Three),
        None => Kafka::start_with(Nodes::Three, &Extras::quick_sessions()),
    };
    let kafka = match found {
        Found::Running(kafka) => kafka,
        Found::Unavailable(reason) => return Err(reason.into()),
    };
    let protocols = match &arguments.protocol[..] {
        [] => Protocol::value_variants(),
        chosen => chosen,
    };
    let mut clean = true;
    for protocol in protocols {
        let options = options(arguments, *protocol);
        let directory = tempfile::Builder::new()
            .prefix("keylane-upgrade-")
            .tempdir()?
            .keep();
        eprintln!(
            "{protocol:?}: {} to {this} and back; journals and logs are in {}",
            arguments.from,
            directory.display()
        );
        let how = (programs.clone(), arguments.kills);
        upgrade(&kafka, &options, arguments.seed, how, &directory).await?;
        let report = Report::of(&History::load(&directory)?, |finding| {
            eprintln!("{finding}")
        });
        let metadata_ignored = metadata_ignored(&evidence::members(&directory))?;
        let kept = report.is_clean();
        println!(
            "{}",
            serde_json::to_string(&Line {
                from: &before.hash,
                to: &this,
                metadata_ignored,
                report
            })?
        );
        if metadata_ignored > 0 {
            eprintln!(
                "{metadata_ignored} commits could not be used by the other version: it repeats what they name as done"
            );
        }
        if kept && !arguments.keep {
            fs::remove_dir_all(&directory)?;
        } else {
            eprintln!("see {}", directory.display());
        }
        clean &= kept;
    }
    Ok(clean)
}

/// Those of a run of the chaos program with nothing broken.
fn options(arguments: &Arguments, protocol: Protocol) -> Options {
    let mut options = Options::parse_from(["keylane-upgrade"]);
    (options.seed, options.minutes, options.protocol) =
        (arguments.seed, arguments.minutes, protocol);
    (options.members, options.rate) = (arguments.members, arguments.rate);
    options
}

/// Counts the lines about it in the members' logs.
fn metadata_ignored(members: &Path) -> std::io::Result<usize> {
    let mut lines = 0;
    for entry in fs::read_dir(members)? {
        let path: PathBuf = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let log = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
            lines += log
                .lines()
                .filter(|line| line.contains("the commit's metadata is ignored"))
                .count();
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_version_could_not_read_of_the_other_is_counted_over_all_logs() {
        let directory = tempfile::tempdir().unwrap();
        let line = |text: &str| format!("WARN keylane::consumer: {text} topic=\"t\" partition=0\n");
        let (ignored, other) = (
            line("the commit's metadata is ignored"),
            line("partition assigned"),
        );
        fs::write(
            directory.path().join("m0.0.log"),
            format!("{ignored}{other}{ignored}"),
        )
        .unwrap();
        fs::write(directory.path().join("m1.0.log"), &ignored).unwrap();
        fs::write(directory.path().join("m1.0.jsonl"), &ignored).unwrap();
        assert_eq!(metadata_ignored(directory.path()).unwrap(), 3);
    }
}
