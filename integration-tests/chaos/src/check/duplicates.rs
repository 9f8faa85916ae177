//! What was done more than once, and why.

use std::{collections::HashMap, time::Duration};

use serde::Serialize;

use super::{
    GRACE,
    history::{Attempt, End, History, Place},
};
use crate::{
    clock::{Nanos, nanos},
    journal::Outcome,
};

/// A drain that drops an attempt says so within this time.
const SAME_DRAIN: Duration = Duration::from_secs(1);

/// Records that were settled once more, by cause.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Duplicates {
    /// The first one's process was killed, or ended by a record.
    pub crash: usize,
    /// The first one's member was out of the group, or stopped.
    pub lost_assignment: usize,
    /// The first one had not ended when the time of its drain was over. These are repeated, but were not settled before.
    pub drain_deadline: usize,
    /// A broker was away when the commit was due.
    pub outage: usize,
    /// None of these.
    pub unexplained: usize,
}

/// The duplicates, and those without a cause in words.
pub fn find(history: &History) -> (Duplicates, Vec<String>) {
    let mut places: HashMap<Place, Vec<&Attempt>> = HashMap::new();
    for attempt in &history.attempts {
        places.entry(attempt.place).or_default().push(attempt);
    }
    let (mut found, mut unexplained) = (Duplicates::default(), Vec::new());
    for attempts in places.values() {
        found.drain_deadline += attempts.windows(2).filter(|pair| was_dropped(history, pair[0], pair[1])).count();
        let settled: Vec<&&Attempt> = attempts.iter().filter(|attempt| attempt.settled()).collect();
        for pair in settled.windows(2) {
            match cause(history, pair[0], pair[1]) {
                Some(Cause::Crash) => found.crash += 1,
                Some(Cause::Lost) => found.lost_assignment += 1,
                Some(Cause::Outage) => found.outage += 1,
                None => {
                    found.unexplained += 1;
                    unexplained.push(format!("{} AFTER {}", history.show(pair[1]), history.show(pair[0])));
                }
            }
        }
    }
    (found, unexplained)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Crash,
    Lost,
    Outage,
}

fn cause(history: &History, first: &Attempt, again: &Attempt) -> Option<Cause> {
    let life = &history.lives[first.life];
    let session = nanos(Duration::from_millis(history.evidence.common.session_timeout_ms));
    // What was settled so long before it was cut off had been committed.
    let uncommitted = life.commit_interval + nanos(GRACE);
    if life.end.is_some_and(|(end, how)| how != End::Orderly && end >= first.start && end <= again.start) {
        return Some(Cause::Crash);
    }
    let stopped = life.stops.iter().any(|stop| stop.meets(first.start, first.end + uncommitted));
    // The group may have given its partitions away long before it learns of it.
    let lost = life.lost.iter().any(|&lost| lost >= first.start && lost <= first.end + session + uncommitted);
    let later = |at: Nanos| at >= first.end && at <= again.start;
    if stopped || lost {
        Some(Cause::Lost)
    } else if history.outage(first.end, again.start) || history.lives[again.life].unreadable.iter().any(|&at| later(at))
    {
        Some(Cause::Outage)
    } else {
        None
    }
}

fn was_dropped(history: &History, first: &Attempt, again: &Attempt) -> bool {
    let given_back = &history.lives[first.life].given_back;
    let near = |at: Nanos| (at - first.end).abs() <= nanos(SAME_DRAIN);
    first.outcome == Some(Outcome::CutOff)
        && (first.life, first.epoch) != (again.life, again.epoch)
        && given_back.iter().any(|&(at, dropped)| dropped && near(at))
}

#[cfg(test)]
mod tests {
    use super::{super::testing::Story, Duplicates, find};
    use crate::journal::{Deed, Note, Outcome, Sent};

    /// Done by a, and done by b eight seconds later.
    fn twice() -> Story {
        Story::of(1).ran("a", 0, (1_000, 1_100), Outcome::Done).ran("b", 0, (9_000, 9_100), Outcome::Done)
    }

    fn causes(story: Story) -> Duplicates {
        find(&story.history()).0
    }

    #[test]
    fn one_without_a_cause_is_told() {
        let (found, told) = find(&twice().history());
        assert_eq!((found.unexplained, told.len()), (1, 1));
    }

    #[test]
    fn each_cause_is_found_where_it_happened_in_time() {
        assert_eq!(causes(twice().kill("a", 1_500)), Duplicates { crash: 1, ..Duplicates::default() });
        assert_eq!(causes(twice().kill("b", 1_500)).unexplained, 1);
        assert_eq!(causes(twice().kill("a", 9_500)).unexplained, 1);
        let lost = Duplicates { lost_assignment: 1, ..Duplicates::default() };
        assert_eq!(causes(twice().note("a", 1_500, Note::Lost)), lost);
        assert_eq!(causes(twice().note("a", 20_000, Note::Lost)).unexplained, 1);
        assert_eq!(causes(twice().signal("a", 1_050, Sent::Stop).signal("a", 8_900, Sent::Continue)), lost);
        assert_eq!(causes(twice().signal("a", 6_000, Sent::Stop)).unexplained, 1);
        let out = |what: &str| {
            let what = what.to_owned();
            twice().deed(1_200, Deed::Out { what: what.clone() }).deed(3_000, Deed::Back { what })
        };
        assert_eq!(causes(out("broker 1")), Duplicates { outage: 1, ..Duplicates::default() });
        assert_eq!(causes(out("dead letters")).unexplained, 1);
    }

    #[test]
    fn an_attempt_that_its_drain_cut_off_is_counted_when_it_is_repeated() {
        let story = |dropped| {
            let story = Story::of(1).ran("a", 0, (1_000, 2_000), Outcome::CutOff);
            story.note("a", 2_100, Note::GivenBack { dropped }).ran("b", 0, (3_000, 3_100), Outcome::Done)
        };
        assert_eq!(causes(story(true)), Duplicates { drain_deadline: 1, ..Duplicates::default() });
        assert_eq!(causes(story(false)), Duplicates::default());
    }
}
