//! Logs that go back while they are read: what ships decides what is read, handed over and
//! committed, and when reading pauses.
//!
//! Logs are cut, with leader epochs or without, and topics are re-created; positions go back with them. A commit
//! that stays at the earlier, higher position makes the next owner skip records once the log has
//! grown past it, and so does an epoch that begins above what was read and not processed (guarantee
//! G1).

mod row;
mod world;

use crate::for_each_seed;
use crate::steps::Steps as _;
use crate::violation::Checked;
use world::World;

const RUNS: u64 = 1_000;

/// A mistake of the shell, to prove that the simulator notices.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// Where the owner has no figures yet, the next epoch begins where the log went back to.
    BeginsAtTheCutWithoutFigures,
    /// Figures count that are from before a cut below the start.
    BelievesFiguresOfTheStart,
    /// A log that went back is read on.
    ReadsOn,
    /// A re-created topic goes unseen.
    SeesNoOtherLog,
    ReadsWhatIsPaused,
    ForgetsWhatIsSettledAhead,
    ForgetsToResume,
    /// What was read when the pause came is gone.
    DropsWhatWasReadBeforeAPause,
}

fn run(seed: u64, fault: Fault) -> Checked<()> {
    World::new(seed, fault).run(seed, 400)
}

#[test]
fn every_record_is_processed_and_what_was_reported_last_is_committed_wherever_the_log_has_gone() {
    for_each_seed(RUNS, |seed| {
        run(seed, Fault::None).unwrap_or_else(|broken| panic!("{broken}"));
    });
}

fn caught(fault: Fault, words: &str) {
    crate::steps::caught(2_000, words, |seed| run(seed, fault));
}

#[test]
fn an_epoch_that_begins_above_what_an_owner_without_figures_has_is_noticed() {
    caught(Fault::BeginsAtTheCutWithoutFigures, "G1");
    caught(Fault::BeginsAtTheCutWithoutFigures, "G2");
}

#[test]
fn an_epoch_that_begins_by_figures_from_before_a_cut_is_noticed() {
    caught(Fault::BelievesFiguresOfTheStart, "G1");
}

#[test]
fn a_rewound_log_that_is_read_on_is_noticed() {
    caught(Fault::ReadsOn, "G1");
}

#[test]
fn a_recreated_topic_that_goes_unseen_is_noticed() {
    caught(Fault::SeesNoOtherLog, "G1");
}

#[test]
fn what_is_read_in_spite_of_a_pause_is_noticed() {
    caught(Fault::ReadsWhatIsPaused, "G6");
}

#[test]
fn a_limit_of_what_is_settled_ahead_that_is_not_kept_is_noticed() {
    caught(Fault::ForgetsWhatIsSettledAhead, "G6");
}

#[test]
fn a_partition_that_stays_paused_is_noticed() {
    caught(Fault::ForgetsToResume, "G6");
}

#[test]
fn what_is_dropped_when_a_pause_comes_is_noticed() {
    caught(Fault::DropsWhatWasReadBeforeAPause, "G1");
}
