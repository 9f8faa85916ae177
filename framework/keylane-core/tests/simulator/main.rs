//! A seeded simulator of whole partitions: two members, a broker with holes in its logs, and everything that can go
//! wrong between them. See `world.rs` for the steps, `owner.rs` for what is checked after each of them.
//!
//! A run is its seed. To repeat a failed one, or to run more of them:
//! ```text
//! KEYLANE_SIM_SEED=1234 cargo test -p keylane-core --test simulator    # that run, with its steps
//! KEYLANE_SIM_RUNS=100000 cargo test -p keylane-core --test simulator  # so many runs
//! ```

mod broker;
mod ending;
mod owner;
mod plan;
mod random;
mod results;
mod violation;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use world::{Fault, World};

const DEFAULT_RUNS: u64 = 1_500;

/// Runs a seed to its end; the error says what was broken and in which step.
fn run(seed: u64, fault: Fault, trace: bool) -> Result<BTreeMap<&'static str, u64>, String> {
    let mut step = 0;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed, fault);
        let steps = 50 + world.random.below(1_000);
        while step < steps {
            step += 1;
            let done = world.step()?;
            if trace {
                eprintln!("step {step}: {done:?}");
            }
        }
        step += 1;
        world.end()?;
        Ok(world.corners)
    }));
    let broken = match outcome {
        Ok(Ok(corners)) => return Ok(corners),
        Ok(Err(message)) => message,
        Err(_) => "a panic, see above".to_owned(),
    };
    Err(format!("seed {seed}, step {step}: {broken}; repeat it with KEYLANE_SIM_SEED={seed}"))
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}

#[test]
fn every_promise_holds_after_every_step() {
    if let Some(seed) = number("KEYLANE_SIM_SEED") {
        let corners = run(seed, Fault::None, true).unwrap_or_else(|broken| panic!("{broken}"));
        eprintln!("{corners:#?}");
        return;
    }
    let runs = number("KEYLANE_SIM_RUNS").unwrap_or(DEFAULT_RUNS);
    let mut reached: BTreeMap<&'static str, u64> = BTreeMap::new();
    for seed in 0..runs {
        let corners = run(seed, Fault::None, false).unwrap_or_else(|broken| panic!("{broken}"));
        corners.into_iter().for_each(|(corner, count)| *reached.entry(corner).or_default() += count);
    }
    eprintln!("{runs} runs: {reached:#?}");
    for corner in CORNERS.iter().filter(|_| runs >= DEFAULT_RUNS) {
        assert!(reached.get(corner).is_some_and(|&count| count >= 100), "hardly ever reached: {corner}");
    }
}

/// What the runs have to come past for their silence to mean something.
const CORNERS: [&str; 19] = [
    "a crash",
    "a dead letter refused by the guard",
    "a delivery settled before",
    "a pause for the budget",
    "a position moved with its map",
    "a repeated delivery",
    "a round through the retry topic",
    "a stale ticket",
    "a stop",
    "a ticket of another epoch",
    "a time-out retried in place",
    "a write tried again",
    "an end: dead-lettered",
    "an end: done",
    "an end: parked",
    "an end: retried for ever",
    "an end: skipped",
    "hand-over after a drain",
    "hand-over at the deadline",
];

/// How many of the first runs notice that the shell is at fault, and by which words.
fn caught(fault: Fault, words: &str) {
    const RUNS: u64 = 300;
    let broken: Vec<String> = (0..RUNS).filter_map(|seed| run(seed, fault, false).err()).collect();
    assert!(!broken.is_empty(), "{fault:?} goes unnoticed in {RUNS} runs");
    assert!(
        broken.iter().any(|message| message.contains(words)),
        "{fault:?} is noticed, but not by {words}: {broken:?}"
    );
}

#[test]
fn a_commit_of_what_was_only_read_is_noticed() {
    caught(Fault::CommitsWhatWasReadInsteadOfTheWatermark, "G1");
}

#[test]
fn a_failed_write_that_counts_as_acknowledged_is_noticed() {
    caught(Fault::CountsFailedWritesAsAcknowledged, "G1");
}

#[test]
fn metadata_committed_with_another_position_is_noticed() {
    caught(Fault::CommitsMetadataOfAnEarlierPosition, "G4");
}

#[test]
fn an_inherited_map_that_is_dropped_is_noticed() {
    caught(Fault::DropsTheInheritedMap, "AlreadySettled");
}

#[test]
fn a_hand_over_of_what_still_runs_is_noticed() {
    caught(Fault::HandsOverWhatStillRuns, "G2");
}

#[test]
fn a_record_lost_before_its_delivery_is_noticed() {
    caught(Fault::LosesARecordBetweenReadingAndDelivery, "G1");
}

#[test]
fn deliveries_beyond_the_budget_are_noticed() {
    caught(Fault::DeliversBeyondTheBudget, "G6");
}
