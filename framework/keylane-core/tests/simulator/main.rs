//! A seeded simulator of whole partitions: two members, a broker with holes in its logs, and
//! everything that can go wrong between them. See `world.rs`, `membership.rs` and `hand_over.rs` for the
//! steps,
//! `owner.rs` for what is checked after each of them.
//!
//! A run is its seed. To repeat a failed one, or to run more of them:
//! ```text
//! KEYLANE_SIM_SEED=1234 cargo test -p keylane-core --test simulator    # that run, with its steps
//! KEYLANE_SIM_RUNS=100000 cargo test -p keylane-core --test simulator  # so many runs
//! ```
//!
//! # Does it notice anything?
//! A shell with a mistake is noticed: see the tests below. So is a core with one; each of these was
//! put in by hand, and the default runs failed by it:
//! * ledger: the watermark one too high, or at the next delivery; the settled-ahead count drifts;
//!   repeated deliveries are new; runs go on over unsettled offsets
//! * commits: that of a position that has not moved loses the leader epoch it came with
//! * a log that goes back (`logs.rs`): the next epoch begins at the cut where there are no figures
//!   yet, or by figures of the start
//! * commits of a member (`commit_order.rs`, `poison.rs`): the last commit is sent beside another one;
//!   what was refused is not sent again
//! * map: it is believed about records of a later leader; inherited ranges are left out, not
//!   consulted, or one offset too long or short; a run is written one too long; the checksum leaves
//!   the position out; a map that is cut short does not say so
//! * lanes: they do not wait; the next one is not woken; a back-off lets its lane go; a retry
//!   topic's lane waits in offset order
//! * tickets: serial, epoch or state are not compared
//! * writes: a failed or refused one settles; its request settles; its back-off ends in an attempt;
//!   what is too large is parked at once, goes to the retry topic again, or keeps its headers
//! * starts: one more than the concurrency; waiting records take a place; they go on while paused,
//!   draining or stopped
//! * drains: over while attempts or writes are under way; failed writes are tried again
//! * time: timers fire early; due times are ignored
//! * policy: a retry too few, a round too many, a panic is final; attempts or bytes are not
//!   counted. What the guard holds is judged by `outages.rs`: here the model only checks that
//!   nothing is held while the guard holds nothing
//! * hand-over: it waits for no owner; it is answered without a last commit; a second revoke keeps the
//!   first one's commit, or takes its place; a failure answers nothing
//! * shutdown: it commits before the owners have ended
//! * other groups: a held record holds its lane, starts, or is taken for a blocker; one of a group
//!   that is gone is settled
//! * operators' acts: a skip frees its lane early, leaves its lane without its tail, or is forgotten at
//!   a failure; a paused key starts its next record, or never goes on; a dead letter is written before
//!   its turn
//! * blockers: taken from a window that is not full, or not settled, or before their time; taken
//!   while paused; a running one is written at once; a waiting one keeps its timer; the guard is
//!   not asked

mod acts;
mod broker;
mod client;
mod commit_order;
mod commits;

mod ending;
mod foreign;
mod hand_over;
mod logs;
mod membership;
mod outages;
mod owner;
mod plan;
mod poison;
mod random;
mod results;
mod steps;
mod stuck;
mod violation;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use world::{Fault, World};

const DEFAULT_RUNS: u64 = 1_000;
const STUCK_RUNS: u64 = 200;

type Corners = BTreeMap<&'static str, u64>;

/// Runs a seed to its end; the error says what was broken and in which step.
fn run(seed: u64, fault: Fault, trace: bool) -> Result<Corners, String> {
    run_world(seed, || World::new(seed, fault), 1_000, trace)
}

fn run_world(
    seed: u64,
    world: impl Fn() -> World,
    most_steps: u64,
    trace: bool,
) -> Result<Corners, String> {
    let mut step = 0;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut world = world();
        let steps = 50 + world.random.below(most_steps);
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
    Err(format!(
        "seed {seed}, step {step}: {broken}; repeat it with KEYLANE_SIM_SEED={seed}"
    ))
}

pub(crate) fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is not a number: {text}")),
    )
}

/// One run of the seed that the environment names, or that many runs, or as many as it says.
pub(crate) fn for_each_seed(runs: u64, mut run: impl FnMut(u64)) {
    if let Some(seed) = number("KEYLANE_SIM_SEED") {
        return run(seed);
    }
    (0..number("KEYLANE_SIM_RUNS").unwrap_or(runs)).for_each(run);
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
        corners
            .into_iter()
            .for_each(|(corner, count)| *reached.entry(corner).or_default() += count);
    }
    eprintln!("{runs} runs: {reached:#?}");
    for corner in CORNERS.iter().filter(|_| runs >= DEFAULT_RUNS) {
        assert!(
            reached.get(corner).is_some_and(|&count| count >= 30),
            "hardly ever reached: {corner}"
        );
    }
}

/// What the runs have to come past for their silence to mean something.
const CORNERS: [&str; 46] = [
    "a crash",
    "a dead letter ordered: at once",
    "a dead letter ordered: at its turn",
    "a dead letter ordered: of what runs",
    "a key that is paused",
    "a retry ordered",
    "a skip at the end of an attempt",
    "a skip at the end of a write",
    "a skip at delivery",
    "a skip ordered: at once",
    "a dead letter with fewer headers",
    "a log cut below the committed position",
    "a log cut that a map is about",
    "a log written again below the committed position",
    "a delivery settled before",
    "a foreign delivery",
    "a held record settled as foreign",
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
    "an end by time",
    "an end: done",
    "an end: held",
    "an end: parked",
    "an end: retried for ever",
    "an end: skipped",
    "a drained hand-over that repeats nothing",
    "a last commit without an answer",
    "a shutdown",
    "an end by a failure",
    "an owner that does not end",
    "hand-over after a drain",
    "hand-over at the deadline",
    "hand-over of what was lost meanwhile",
    "two revokes with one answer",
    "held in a partial outage",
    "held in a total outage",
    "too large for the retry topic",
    "too large with the fewest headers",
];

#[test]
fn every_promise_holds_where_records_are_stuck_and_only_those_that_hold_up_their_partition_are_given_up()
 {
    const CORNERS: [&str; 4] = [
        "a blocker dead-lettered",
        "a blocker that has parked",
        "a blocker that runs",
        "a blocker that waits",
    ];
    let one = |seed, trace| {
        run_world(seed, || World::with_stuck_records(seed), 8_000, trace)
            .unwrap_or_else(|broken| panic!("{broken}"))
    };
    if let Some(seed) = number("KEYLANE_SIM_SEED") {
        one(seed, true);
        return;
    }
    let runs = number("KEYLANE_SIM_RUNS").unwrap_or(STUCK_RUNS);
    let mut reached = Corners::new();
    for seed in 0..runs {
        one(seed, false)
            .into_iter()
            .for_each(|(corner, count)| *reached.entry(corner).or_default() += count);
    }
    eprintln!("{runs} runs: {reached:#?}");
    for corner in CORNERS.iter().filter(|_| runs >= STUCK_RUNS) {
        assert!(
            reached.get(corner).is_some_and(|&count| count >= 3),
            "hardly ever reached: {corner}"
        );
    }
}

#[test]
fn every_promise_holds_where_operators_act_on_stuck_records_too() {
    const CORNERS: [&str; 3] = [
        "a blocker dead-lettered",
        "a dead letter ordered: of what runs",
        "a key that is paused",
    ];
    let mut reached = Corners::new();
    for_each_seed(STUCK_RUNS / 4, |seed| {
        let world = || {
            let mut world = World::with_stuck_records(seed);
            world.has_acts = true;
            world
        };
        let corners = run_world(seed, world, 8_000, false);
        let corners = corners.unwrap_or_else(|broken| panic!("{broken}"));
        for (corner, count) in corners {
            *reached.entry(corner).or_default() += count;
        }
    });
    let runs_all = number("KEYLANE_SIM_SEED").is_none();
    for corner in CORNERS.iter().filter(|_| runs_all) {
        assert!(
            reached.contains_key(corner),
            "never reached: {corner}: {reached:?}"
        );
    }
}

/// One of the first runs notices that the shell is at fault, and says so in these words.
fn caught(fault: Fault, words: &str) {
    steps::caught(300, words, |seed| run(seed, fault, false).map(|_| ()));
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
fn a_map_believed_about_a_log_that_was_cut_is_noticed() {
    caught(
        Fault::IgnoresTheLeaderEpoch,
        "AlreadySettled instead of Queued",
    );
}

#[test]
fn commits_without_the_leader_epoch_are_noticed() {
    caught(Fault::CommitsNoLeaderEpoch, "G1");
}

#[test]
fn a_start_without_the_confirming_seek_is_noticed() {
    caught(Fault::StartsWithoutTheConfirmingSeek, "G1");
}

#[test]
fn a_hand_over_of_what_still_runs_is_noticed() {
    caught(Fault::HandsOverWhatStillRuns, "G2");
}

#[test]
fn a_hand_over_without_its_last_commit_is_noticed() {
    caught(Fault::ForgetsTheLastCommit, "G8");
}

#[test]
fn a_revoke_that_is_forgotten_because_it_is_the_second_is_noticed() {
    caught(Fault::ForgetsASecondRevoke, "G8");
}

#[test]
fn a_commit_of_what_was_lost_is_noticed() {
    caught(Fault::CommitsALostAssignment, "G7");
}

#[test]
fn a_shutdown_that_commits_what_was_so_before_its_drain_is_noticed() {
    caught(Fault::CommitsBeforeTheDrain, "G8");
}

#[test]
fn a_record_lost_before_its_delivery_is_noticed() {
    caught(Fault::LosesARecordBetweenReadingAndDelivery, "G1");
}

#[test]
fn an_epoch_that_begins_without_the_directives_is_noticed() {
    caught(Fault::LeavesANewOwnerWithoutDirectives, "G12");
}

#[test]
fn an_order_of_its_own_that_replaces_what_is_directed_is_noticed() {
    caught(Fault::ReplacesWhatIsDirected, "G12");
}

#[test]
fn deliveries_beyond_the_budget_are_noticed() {
    caught(Fault::DeliversBeyondTheBudget, "G6");
}
