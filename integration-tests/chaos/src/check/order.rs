//! G2, the order: when a record starts, every earlier record of its key is settled; and within an
//! epoch no key goes back.
//!
//! That is stronger than the rule of rewinds that the suites use, and it holds where theirs does
//! not: a member that was stopped goes on for a moment beside its successor, and the two make no
//! single sequence. What goes through the retry topic is settled where it was and gives up its
//! order; there it is not asked for.

use std::collections::HashMap;

use super::history::{Attempt, History, Place};
use crate::{clock::Nanos, evidence::Source};

/// The starts out of turn, in words.
pub fn violations(history: &History) -> Vec<String> {
    let mut lanes = lanes(history);
    let mut found = Vec::new();
    for attempt in &history.attempts {
        let Some(key) = attempt
            .key
            .as_deref()
            .filter(|_| attempt.place.source == Source::Origin)
        else {
            continue;
        };
        let Some(lane) = lanes.get_mut(&(attempt.place.partition, key)) else {
            continue;
        };
        let Ok(position) = lane.offsets.binary_search(&attempt.place.offset) else {
            continue;
        };
        if let Some(fault) = lane.start(position, attempt) {
            found.push(format!("{}: {fault}", history.show(attempt)));
        }
    }
    found
}

struct Lane {
    offsets: Vec<i64>,
    /// For each record, when it and all before it were settled; `Nanos::MAX` for never.
    all_settled: Vec<Nanos>,
    /// Where each epoch of each process is, and with which attempt.
    epochs: HashMap<(usize, u32), (usize, u32)>,
}

fn lanes(history: &History) -> HashMap<(i32, &str), Lane> {
    let mut offsets: HashMap<(i32, &str), Vec<i64>> = HashMap::new();
    for record in &history.records {
        if let Some(key) = &record.key {
            offsets
                .entry((record.place.partition, key))
                .or_default()
                .push(record.place.offset);
        }
    }
    let lane = |((partition, key), mut offsets): ((i32, _), Vec<i64>)| {
        offsets.sort_unstable();
        let mut latest = Nanos::MIN;
        let all_settled = offsets.iter().map(|&offset| {
            let place = Place {
                source: Source::Origin,
                partition,
                offset,
            };
            latest = latest.max(history.settled.get(&place).copied().unwrap_or(Nanos::MAX));
            latest
        });
        let all_settled = all_settled.collect();
        (
            (partition, key),
            Lane {
                offsets,
                all_settled,
                epochs: HashMap::new(),
            },
        )
    };
    offsets.into_iter().map(lane).collect()
}

impl Lane {
    fn start(&mut self, position: usize, attempt: &Attempt) -> Option<String> {
        let before = self
            .epochs
            .insert((attempt.life, attempt.epoch), (position, attempt.number));
        if let Some((last, number)) = before
            && (position < last || (position == last && attempt.number <= number))
        {
            return Some(format!(
                "started after @{} in the same epoch",
                self.offsets[last]
            ));
        }
        let previous = position.checked_sub(1)?;
        (self.all_settled[previous] > attempt.start).then(|| {
            format!(
                "started before all up to @{} were settled",
                self.offsets[previous]
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{Story, calm},
        violations,
    };
    use crate::{fate::Fate, journal::Outcome};

    #[test]
    fn a_start_before_an_earlier_record_is_settled_is_out_of_turn() {
        let story =
            Story::of(2)
                .ran("a", 0, (0, 100), Outcome::Done)
                .ran("b", 1, (50, 150), Outcome::Done);
        assert_eq!(violations(&story.history()).len(), 1);
        // Nor is a failure a settlement.
        let story =
            Story::of(2)
                .ran("a", 0, (0, 10), Outcome::Failed)
                .ran("a", 1, (50, 60), Outcome::Done);
        assert_eq!(violations(&story.history()).len(), 1);
    }

    #[test]
    fn a_dead_letter_a_retry_and_a_skip_let_the_next_one_start() {
        let story = Story::of(4)
            .ran("a", 0, (0, 10), Outcome::Failed)
            .dead_letter(0, 20, "fatal")
            .ran("a", 1, (30, 40), Outcome::Failed)
            .retry(1, 7, 50, 1)
            .ran("a", 2, (60, 70), Outcome::Skipped)
            .ran("a", 3, (80, 90), Outcome::Done);
        assert_eq!(violations(&story.history()), Vec::<String>::new());
    }

    #[test]
    fn a_rewind_to_another_member_is_fine_and_one_within_an_epoch_is_not() {
        let again = |member| calm().ran(member, 1, (600, 650), Outcome::Done).history();
        assert_eq!(violations(&again("b")), Vec::<String>::new());
        assert_eq!(violations(&again("a")).len(), 1);
        let next_epoch = calm().attempt("a", 2, ("t", 1, 1), (600, 650), Some(Outcome::Done));
        assert_eq!(violations(&next_epoch.history()), Vec::<String>::new());
    }

    #[test]
    fn a_retry_in_place_is_in_turn_and_the_same_attempt_twice_is_not() {
        let failed = || Story::of(1).ran("a", 0, (0, 10), Outcome::Failed);
        let retried = failed().attempt("a", 1, ("t", 0, 2), (20, 30), Some(Outcome::Done));
        assert_eq!(violations(&retried.history()), Vec::<String>::new());
        let repeated = failed().attempt("a", 1, ("t", 0, 1), (20, 30), Some(Outcome::Done));
        assert_eq!(violations(&repeated.history()).len(), 1);
    }

    #[test]
    fn other_keys_and_null_keys_wait_for_nobody() {
        let story = Story::of(1)
            .record(1, Some("other"), Fate::Works(1))
            .record(2, None, Fate::Works(1));
        let story = story
            .ran("a", 2, (0, 5), Outcome::Done)
            .ran("a", 1, (1, 5), Outcome::Done);
        assert_eq!(
            violations(&story.ran("a", 0, (2, 5), Outcome::Done).history()),
            Vec::<String>::new()
        );
    }
}
