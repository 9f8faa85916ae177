//! G10: no good record is given up because of an outage.
//!
//! The result of a dead letter's last attempt shows why it is one. Where that was the outage, one
//! of these promises was broken: `unavailable` gives nothing up; a policy by time gives up after
//! its time; and where several keys fail at once, the guard holds what is out of retries
//! ([`keylane::config::Outage`]).

use std::{collections::HashMap, time::Duration};

use super::history::{Attempt, History};
use crate::{
    clock::{Nanos, nanos, seconds},
    evidence::Written,
    journal::Outcome,
    settings::PATIENCE,
};

/// The brokers' time stamps are whole milliseconds of another clock, and an attempt may end while
/// the letter is written.
const STAMP_ERROR: Nanos = 5_000_000;
/// The lanes that failed so shortly before are failing. The longest back-off in place is shorter.
const RECENT: Nanos = nanos(Duration::from_secs(2));
/// More lanes than the guard needs, which may count them otherwise.
const LANES: usize = 8;

/// What was found.
#[derive(Debug, Default)]
pub struct Away {
    /// Attempts that failed because something was away.
    pub attempts: usize,
    /// Good records that are dead letters because of an outage, against a promise.
    pub given_up: Vec<String>,
    /// Those for which there was no promise: too few keys had failed.
    pub given_up_alone: usize,
}

/// Goes through the dead letters.
pub fn check(history: &History) -> Away {
    let is_away =
        |attempt: &Attempt| matches!(attempt.outcome, Some(Outcome::Away | Outcome::Unavailable));
    let attempts = history
        .attempts
        .iter()
        .filter(|attempt| is_away(attempt))
        .count();
    let mut found = Away {
        attempts,
        ..Away::default()
    };
    let mut of_record: HashMap<u64, Vec<&Attempt>> = HashMap::new();
    for attempt in &history.attempts {
        of_record.entry(attempt.id).or_default().push(attempt);
    }
    let good: HashMap<u64, _> = history
        .records
        .iter()
        .map(|record| (record.value.id, record))
        .collect();
    for letter in &history.evidence.dead_letters {
        let Some(record) = good
            .get(&letter.id)
            .filter(|record| !record.value.fate.may_die())
        else {
            continue;
        };
        let before = of_record.get(&letter.id).into_iter().flatten();
        let before: Vec<&Attempt> = before
            .copied()
            .filter(|attempt| attempt.end <= letter.at + STAMP_ERROR)
            .collect();
        let Some(last) = before
            .iter()
            .max_by_key(|attempt| attempt.end)
            .filter(|last| is_away(last))
        else {
            continue;
        };
        match broken_promise(history, letter, &before, last) {
            Some(promise) => {
                let at = history.clock(letter.at);
                found.given_up.push(format!(
                    "{} at {at} after {}: {promise}",
                    record.value,
                    history.show(last)
                ));
            }
            None => found.given_up_alone += 1,
        }
    }
    found
}

fn broken_promise(
    history: &History,
    letter: &Written,
    before: &[&Attempt],
    last: &Attempt,
) -> Option<String> {
    if last.outcome == Some(Outcome::Unavailable) {
        return Some("its last attempt was unavailable, which gives nothing up".to_owned());
    }
    if let Some(millis) = history.evidence.common.retry_time_ms {
        let failed = before.iter().filter(|attempt| {
            attempt
                .outcome
                .is_some_and(|outcome| outcome != Outcome::Done)
        });
        let tried_for = failed
            .map(|attempt| letter.at - attempt.end)
            .max()
            .unwrap_or(0);
        // The delays of the retry topic count as they were planned, up to a fifth shorter than the
        // policy's.
        if tried_for < nanos(Duration::from_millis(millis)) / 4 * 3 {
            return Some(format!(
                "it was tried for {} s of {millis} ms",
                seconds(tried_for)
            ));
        }
    }
    let lanes = failing_lanes(history, letter.at, last);
    (lanes >= LANES && away_before(history, letter.at) < nanos(PATIENCE) / 10 * 9)
        .then(|| format!("{lanes} keys failed in its member then, and the guard holds"))
}

/// The keys whose latest attempt in the member failed shortly before, because something was away.
/// None where the member gave partitions back meanwhile: the guard forgets their lanes.
fn failing_lanes(history: &History, at: Nanos, last: &Attempt) -> usize {
    let recent = at - RECENT..=at;
    let life = &history.lives[last.life];
    let changed = life
        .given_back
        .iter()
        .map(|&(at, _)| at)
        .chain(life.lost.iter().copied());
    if changed.into_iter().any(|changed| recent.contains(&changed)) {
        return 0;
    }
    let mut latest: HashMap<&str, &Attempt> = HashMap::new();
    for attempt in history
        .attempts
        .iter()
        .filter(|attempt| attempt.life == last.life && recent.contains(&attempt.end))
    {
        if let Some(key) = attempt.key.as_deref() {
            let latest = latest.entry(key).or_insert(attempt);
            if attempt.end > latest.end {
                *latest = attempt;
            }
        }
    }
    latest
        .values()
        .filter(|attempt| attempt.outcome == Some(Outcome::Away))
        .count()
}

/// How long something had been away in all by then. Records are held for the patience at most where
/// others succeed.
fn away_before(history: &History, at: Nanos) -> Nanos {
    history
        .away
        .iter()
        .map(|(span, _)| (span.to.min(at) - span.from).max(0))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::{super::testing::Story, check};
    use crate::{
        downstream::{Failing, Outage, Whose},
        fate::Fate,
        journal::{Deed, Note, Outcome},
    };

    fn counts(story: Story) -> (usize, usize) {
        let found = check(&story.history());
        (found.given_up.len(), found.given_up_alone)
    }

    /// A number of keys, each of which fails every 400 ms from 1 s to 4 s; one of them is given up
    /// then.
    fn storm(keys: i64, outcome: Outcome) -> Story {
        let story = (0..keys).fold(Story::of(0), |story, offset| {
            story.record(offset, Some(&format!("k{offset}")), Fate::Works(1))
        });
        let story = (0..keys).fold(story, |story, offset| {
            (0..8).fold(story, |story, number| {
                let at = 1_000 + number * 400 + offset;
                let attempt = ("t", offset, u32::try_from(number).unwrap() + 1);
                story.attempt("a", 1, attempt, (at, at + 1), Some(outcome))
            })
        });
        story.dead_letter(0, 3_900, "exhausted")
    }

    fn away(story: Story, from: i64, to: i64) -> Story {
        let outage = Outage {
            whose: Whose::All,
            failing: Failing::Retryable,
            lasts_ms: 1,
        };
        story
            .deed(from, Deed::Away { outage })
            .deed(to, Deed::Healed)
    }

    #[test]
    fn what_was_unavailable_is_never_given_up() {
        assert_eq!(counts(storm(1, Outcome::Unavailable)), (1, 0));
    }

    #[test]
    fn what_is_retried_by_time_has_its_time() {
        // Tried for 2.9 seconds.
        assert_eq!(counts(storm(1, Outcome::Away).retry_time(4_000)), (1, 0));
        assert_eq!(counts(storm(1, Outcome::Away).retry_time(3_000)), (0, 1));
        assert_eq!(counts(storm(1, Outcome::Away)), (0, 1));
    }

    #[test]
    fn where_many_keys_fail_at_once_none_is_given_up() {
        let story = |keys| away(storm(keys, Outcome::Away).retry_time(1_000), 900, 4_000);
        assert_eq!(counts(story(20)), (1, 0));
        assert_eq!(counts(story(4)), (0, 1));
        // Not where the guard has forgotten them, or the patience is used up.
        let given_back = Note::GivenBack {
            dropped: false,
            took_ms: 1,
        };
        assert_eq!(counts(story(20).note("a", 3_000, given_back)), (0, 1));
        let before = away(storm(20, Outcome::Away).retry_time(1_000), -40_000, -10_000);
        assert_eq!(counts(before), (0, 1));
    }

    #[test]
    fn a_bad_record_and_one_that_failed_by_itself_are_no_outages() {
        let bad = Story::of(1)
            .record(0, Some("k"), Fate::Fatal)
            .ran("a", 0, (0, 1), Outcome::Away);
        assert_eq!(
            counts(bad.dead_letter(0, 10, "exhausted").retry_time(10_000)),
            (0, 0)
        );
        let own = Story::of(1).ran("a", 0, (0, 1), Outcome::Away);
        let own = own.attempt("a", 1, ("t", 0, 2), (2, 3), Some(Outcome::Failed));
        assert_eq!(
            counts(own.dead_letter(0, 10, "exhausted").retry_time(10_000)),
            (0, 0)
        );
    }
}
