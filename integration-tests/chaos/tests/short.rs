//! A short run on each group protocol, and the seeds that once found something.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests stop the test as the tests do"
)]

use std::{io::Write, sync::OnceLock};

use clap::Parser;
use keylane_chaos::{check::Report, options::Options, run::run};
use keylane_integration_tests::kafka::{Extras, Kafka, Nodes, own_with};
use tokio::sync::Mutex;

/// Half a minute of trouble, and the healing after it.
const MINUTES: &str = "0.5";

/// These runs are part of every build, on machines that have two processors for all of it: the
/// delays of such a machine in commits and drains are no fault. Campaigns check the promises with
/// the program's defaults.
const PATIENCE: [&str; 8] = [
    "--commit-grace-ms",
    "3000",
    "--quiet-deadline-seconds",
    "600",
    "--least-drain-timeout-ms",
    "1000",
    // Members, and a load, beside those that such a machine has already.
    "--no-second-group",
    "--no-cuts",
];

/// What a machine that is too busy can bring about.
const LATE: [&str; 4] = [
    "unfinished",
    "not_quiet",
    "duplicates.unexplained",
    "redelivered_beyond_bound",
];

/// The seeds of the short runs, and why each is here.
const SEEDS: [(&str, u64, &str); 3] = [
    (
        "classic",
        26,
        "a kill, changed settings, a broker that freezes, and the dead-letter topic away",
    ),
    (
        "cooperative",
        27,
        "a pause beyond the session time-out, a kill, a rolling restart, a broker killed, the retry topic",
    ),
    (
        "consumer",
        31,
        "a kill, a short pause, rolling restarts, leaders moved, a broker killed",
    ),
];

/// One Kafka, one run at a time: the brokers are broken by all of them.
async fn survives(protocol: &str) {
    static KAFKA: OnceLock<Mutex<Option<Kafka>>> = OnceLock::new();
    let kafka = KAFKA
        .get_or_init(|| Mutex::new(own_with(Nodes::Three, &Extras::quick_sessions())))
        .lock()
        .await;
    let Some(kafka) = &*kafka else { return };
    for (_, seed, reason) in SEEDS.into_iter().filter(|(of, ..)| *of == protocol) {
        // A machine that was too busy may have been so for a moment.
        if let Err(late) = survives_once(kafka, protocol, seed, reason).await {
            // Past the capture of the test runner, which hides what a test that passes has printed.
            let _ = writeln!(std::io::stderr(), "LATE, and once more: {late}");
            survives_once(kafka, protocol, seed, reason).await.unwrap();
        }
    }
}

/// What was only late, in words; the test stops at anything else.
async fn survives_once(
    kafka: &Kafka,
    protocol: &str,
    seed: u64,
    reason: &str,
) -> Result<(), String> {
    let seed_text = seed.to_string();
    let arguments = [
        "chaos",
        "--protocol",
        protocol,
        "--seed",
        &seed_text,
        "--minutes",
        MINUTES,
        "--members",
        "3",
    ];
    let options = Options::parse_from(arguments.into_iter().chain(PATIENCE));
    let directory = tempfile::tempdir().unwrap();
    run(kafka, &options, seed, directory.path()).await.unwrap();
    let mut findings = Vec::new();
    let report = Report::of_run(directory.path(), |finding| {
        findings.push(finding.to_owned())
    })
    .unwrap();
    println!("{}", serde_json::to_string(&report).unwrap());
    if report.is_clean() {
        assert!(
            report.done > 1_000 && report.commits_seen > 50,
            "hardly anything happened: {report:?}"
        );
        return Ok(());
    }
    let (found, kept) = (&report.violations, directory.keep());
    let text = format!(
        "seed {seed} ({reason}): {found:?}, see {}\n{}",
        kept.display(),
        findings.join("\n")
    );
    let is_late = found.iter().all(|name| LATE.contains(&name.as_str()));
    assert!(is_late, "broken promise: {text}");
    Err(text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_promise_is_kept_with_the_classic_protocol() {
    survives("classic").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_promise_is_kept_with_the_cooperative_protocol() {
    survives("cooperative").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_promise_is_kept_with_the_consumer_protocol() {
    survives("consumer").await;
}
