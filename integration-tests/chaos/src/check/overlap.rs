//! G2, the other half: two attempts of one key never run at a time, unless a member died or had
//! lost its assignment.

use std::{collections::HashMap, time::Duration};

use super::history::{Attempt, History, Life};
use crate::{
    clock::{Nanos, nanos},
    evidence::Source,
};

/// How long a member may go on that has lost its assignment and does not know it yet.
const UNAWARE: Duration = Duration::from_secs(30);

/// What was found.
#[derive(Debug, Default)]
pub struct Overlaps {
    /// Overlaps in orderly hand-overs, or within one member.
    pub clean: Vec<String>,
    /// With one that died, was stopped, or had lost its assignment.
    pub crash: usize,
}

/// Every start within a running attempt of the same topic, partition and key.
pub fn find(history: &History) -> Overlaps {
    let mut running: HashMap<(Source, i32, &str), Vec<&Attempt>> = HashMap::new();
    let mut found = Overlaps::default();
    for attempt in &history.attempts {
        let Some(key) = &attempt.key else { continue };
        let lane = running
            .entry((attempt.place.source, attempt.place.partition, key))
            .or_default();
        lane.retain(|other| other.end > attempt.start);
        for other in lane.iter() {
            if is_of_a_crash(&history.lives[other.life], other.start, attempt.start)
                || is_of_a_crash(&history.lives[attempt.life], attempt.start, attempt.start)
            {
                found.crash += 1;
            } else {
                found.clean.push(format!(
                    "{} WHILE {}",
                    history.show(attempt),
                    history.show(other)
                ));
            }
        }
        lane.push(attempt);
    }
    found
}

/// Whether the one that made an attempt from `from` on had died, been stopped, or lost its
/// partitions by `at`, though it may have learned it later.
fn is_of_a_crash(life: &Life, from: Nanos, at: Nanos) -> bool {
    let died = life
        .end
        .is_some_and(|(end, how)| how != super::history::End::Orderly && end >= from && end <= at);
    died || life.stops.iter().any(|stop| stop.meets(from, at))
        || life
            .lost
            .iter()
            .any(|&lost| lost >= from && lost <= at + nanos(UNAWARE))
}

#[cfg(test)]
mod tests {
    use super::{super::testing::Story, find};
    use crate::{
        fate::Fate,
        journal::{Note, Outcome, Sent},
    };

    /// The second record starts on b while the first one runs on a.
    fn both() -> Story {
        Story::of(2).ran("a", 0, (0, 8_000), Outcome::Done).ran(
            "b",
            1,
            (7_000, 7_500),
            Outcome::Done,
        )
    }

    fn count(story: Story) -> (usize, usize) {
        let found = find(&story.history());
        (found.clean.len(), found.crash)
    }

    #[test]
    fn two_at_a_time_are_an_overlap_whoever_runs_them() {
        assert_eq!(count(both()), (1, 0));
        let alone =
            Story::of(2)
                .ran("a", 0, (0, 10), Outcome::Done)
                .ran("a", 1, (5, 8), Outcome::Done);
        assert_eq!(count(alone), (1, 0));
    }

    #[test]
    fn one_after_the_other_and_other_keys_do_not_overlap() {
        let story =
            Story::of(2)
                .ran("a", 0, (0, 10), Outcome::Done)
                .ran("b", 1, (10, 20), Outcome::Done);
        assert_eq!(count(story), (0, 0));
        let other = Story::of(1)
            .record(1, Some("other"), Fate::Works(1))
            .record(2, None, Fate::Works(1));
        let other = other.record(3, None, Fate::Works(1));
        let other = (0..4).fold(other, |story, offset| {
            story.ran("a", offset, (offset, 20), Outcome::Done)
        });
        assert_eq!(count(other), (0, 0));
    }

    #[test]
    fn a_pause_a_lost_assignment_and_a_death_explain_one_and_what_comes_later_does_not() {
        assert_eq!(
            count(
                both()
                    .signal("a", 100, Sent::Stop)
                    .signal("a", 7_900, Sent::Continue)
            ),
            (0, 1)
        );
        assert_eq!(count(both().note("a", 7_900, Note::Lost)), (0, 1));
        assert_eq!(count(both().note("a", 60_000, Note::Lost)), (1, 0));
        assert_eq!(count(both().signal("a", 7_950, Sent::Stop)), (1, 0));
        let dead = || {
            Story::of(2)
                .began("a", 0, 0)
                .ran("b", 1, (7_000, 7_500), Outcome::Done)
        };
        assert_eq!(count(dead().kill("a", 6_999)), (0, 1));
        assert_eq!(count(dead().kill("a", 7_400)), (1, 0));
    }
}
