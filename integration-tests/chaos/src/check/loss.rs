//! G1: what became of every record.

use std::collections::{HashMap, HashSet};

use super::history::{History, Place};
use crate::{evidence::Source, fate::Fate, journal::Outcome};

/// What became of the records.
#[derive(Debug, Default)]
pub struct Fates {
    /// Processed successfully.
    pub done: usize,
    /// Skipped by the processor.
    pub skipped: usize,
    /// Records in the dead-letter topic, and not processed.
    pub dead_lettered: usize,
    /// Dead letters of records that end their process.
    pub poisoned: usize,
    /// The most often such a record began.
    pub poison_starts: usize,
    /// None of these, and not committed: a member still has it.
    pub unfinished: Vec<String>,
    /// None of these, and committed.
    pub lost: Vec<String>,
    /// Dead letters with the reason `poison` of records that end no process.
    pub blamed: Vec<String>,
    /// Dead letters of records that would have succeeded in the end, had they been tried often
    /// enough.
    pub given_up_early: usize,
    /// Attempts at records that were not written, or that were never assigned.
    pub unknown: Vec<String>,
    /// Acknowledged by the brokers, and not in the log: nothing that keylane could help.
    pub vanished: usize,
    /// Dead letters beyond the first of a record.
    pub dead_letters_repeated: usize,
    /// Records of the retry topic beyond the first of a record's round.
    pub retries_repeated: usize,
}

/// Goes through all records of the origin topic.
pub fn check(history: &History) -> Fates {
    let ended = |outcome| -> HashSet<u64> {
        let ended = history
            .attempts
            .iter()
            .filter(|attempt| attempt.outcome == Some(outcome));
        ended.map(|attempt| attempt.id).collect()
    };
    let (done, skipped) = (ended(Outcome::Done), ended(Outcome::Skipped));
    let dead: HashMap<u64, &str> = history
        .evidence
        .dead_letters
        .iter()
        .map(|letter| (letter.id, letter.reason.as_str()))
        .collect();
    let mut fates = Fates::default();
    for record in &history.records {
        let id = record.value.id;
        if done.contains(&id) {
            fates.done += 1;
        } else if skipped.contains(&id) {
            fates.skipped += 1;
        } else if dead.contains_key(&id) {
            fates.dead_lettered += 1;
        } else if is_committed(history, record.place) && is_committed_everywhere(history, id) {
            fates
                .lost
                .push(format!("{:?}, {}", record.place, record.value));
        } else {
            fates
                .unfinished
                .push(format!("{:?}, {}", record.place, record.value));
        }
        match dead.get(&id) {
            Some(_) if record.value.fate == Fate::Aborts => fates.poisoned += 1,
            Some(&"poison") => fates
                .blamed
                .push(format!("{:?}, {}", record.place, record.value)),
            Some(_) if !record.value.fate.may_die() => fates.given_up_early += 1,
            _ => {}
        }
        if record.value.fate == Fate::Aborts {
            let starts = history
                .attempts
                .iter()
                .filter(|attempt| attempt.id == id)
                .count();
            fates.poison_starts = fates.poison_starts.max(starts);
        }
    }
    count_copies(history, &mut fates);
    fates.unknown = unknown(history);
    let there: HashSet<u64> = history
        .records
        .iter()
        .map(|record| record.value.id)
        .collect();
    fates.vanished = history
        .evidence
        .acknowledged
        .iter()
        .filter(|record| !there.contains(&record.id))
        .count();
    fates
}

fn is_committed(history: &History, place: Place) -> bool {
    let mut last = history.evidence.samples.iter().rev();
    let sample =
        last.find(|sample| sample.source == place.source && sample.partition == place.partition);
    sample.is_some_and(|sample| {
        place.offset < sample.position
            || sample
                .ahead
                .iter()
                .any(|&(first, last)| (first..=last).contains(&place.offset))
    })
}

/// Also where it waits in the retry topic.
fn is_committed_everywhere(history: &History, id: u64) -> bool {
    let copies = history
        .evidence
        .retries
        .iter()
        .filter(|retry| retry.id == id);
    let mut places = copies.map(|copy| Place {
        source: Source::Retry,
        partition: copy.partition,
        offset: copy.offset,
    });
    places.all(|place| is_committed(history, place))
}

fn count_copies(history: &History, fates: &mut Fates) {
    let letters: HashSet<u64> = history
        .evidence
        .dead_letters
        .iter()
        .map(|letter| letter.id)
        .collect();
    fates.dead_letters_repeated = history.evidence.dead_letters.len() - letters.len();
    let rounds: HashSet<(u64, u32)> = history
        .evidence
        .retries
        .iter()
        .map(|retry| (retry.id, retry.round))
        .collect();
    fates.retries_repeated = history.evidence.retries.len() - rounds.len();
}

fn unknown(history: &History) -> Vec<String> {
    let mut ids: HashMap<Place, u64> = history
        .records
        .iter()
        .map(|record| (record.place, record.value.id))
        .collect();
    for retry in &history.evidence.retries {
        let place = Place {
            source: Source::Retry,
            partition: retry.partition,
            offset: retry.offset,
        };
        ids.insert(place, retry.id);
    }
    // Those of another group have a check of their own.
    let foreign: HashSet<Place> = history
        .evidence
        .foreign_retries
        .iter()
        .map(foreign_place)
        .collect();
    let strange = |attempt: &&super::history::Attempt| {
        let is_known =
            ids.get(&attempt.place) == Some(&attempt.id) || foreign.contains(&attempt.place);
        attempt.epoch == 0 || !is_known
    };
    history
        .attempts
        .iter()
        .filter(strange)
        .map(|attempt| history.show(attempt))
        .collect()
}

fn foreign_place(&(partition, offset): &(i32, i64)) -> Place {
    Place {
        source: Source::Retry,
        partition,
        offset,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::Story, check};
    use crate::{fate::Fate, journal::Outcome};

    #[test]
    fn every_record_has_one_fate() {
        let story = Story::of(6)
            .ran("a", 0, (0, 1), Outcome::Done)
            .ran("a", 1, (0, 1), Outcome::Skipped)
            .dead_letter(2, 5, "fatal")
            .ran("a", 3, (0, 1), Outcome::Failed)
            .committed(10, 4, &[(5, 5)]);
        let fates = check(&story.history());
        assert_eq!((fates.done, fates.skipped, fates.dead_lettered), (1, 1, 1));
        // The fourth was only tried, the sixth not even that; no commit claims the fifth.
        assert_eq!((fates.lost.len(), fates.unfinished.len()), (2, 1));
    }

    #[test]
    fn a_record_that_waits_in_the_retry_topic_is_not_lost_until_that_is_committed() {
        let story = || {
            Story::of(1)
                .ran("a", 0, (0, 1), Outcome::Failed)
                .retry(0, 3, 5, 1)
                .committed(10, 1, &[])
        };
        let fates = check(&story().history());
        assert_eq!((fates.lost.len(), fates.unfinished.len()), (0, 1));
        let done = story().attempt("b", 1, ("t-retry", 3, 2), (20, 30), Some(Outcome::Done));
        let mut history = done.history();
        // The record's number is not its offset there.
        history.attempts.last_mut().unwrap().id = 0;
        assert_eq!(check(&history).done, 1);
    }

    #[test]
    fn only_what_ends_its_process_may_be_called_poison() {
        let story = || {
            Story::of(2)
                .record(0, Some("k"), Fate::Aborts)
                .dead_letter(0, 5, "poison")
        };
        let fates = check(&story().history());
        assert_eq!((fates.poisoned, fates.blamed.len()), (1, 0));
        assert_eq!(
            check(&story().dead_letter(1, 6, "poison").history())
                .blamed
                .len(),
            1
        );
        let tired = Story::of(1)
            .record(0, Some("k"), Fate::Fails(1))
            .dead_letter(0, 5, "exhausted");
        assert_eq!(check(&tired.history()).given_up_early, 1);
    }

    #[test]
    fn what_nobody_wrote_and_what_was_never_assigned_are_unknown() {
        let story =
            Story::of(1)
                .ran("a", 0, (0, 1), Outcome::Done)
                .ran("a", 7, (0, 1), Outcome::Done);
        let story = story.attempt("b", 0, ("t", 0, 1), (5, 6), Some(Outcome::Done));
        assert_eq!(check(&story.history()).unknown.len(), 2);
    }
}
