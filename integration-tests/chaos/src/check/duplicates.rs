//! What was done more than once, and why.

use std::{collections::HashMap, time::Duration};

use serde::Serialize;

use super::history::{Attempt, End, History, Life, Place, Span};
use crate::{
    clock::{Nanos, nanos},
    journal::Outcome,
};

/// What a drain did to an attempt is said within this time.
const SAME_DRAIN: Duration = Duration::from_secs(1);

/// Records that were settled once more, by cause.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Duplicates {
    /// The first one's process was killed, ended by a record, or by a panic in one of keylane's
    /// threads.
    pub crash: usize,
    /// The first one's member was out of the group, or stopped.
    pub lost_assignment: usize,
    /// The first one had not ended when the time of its drain was over. These are repeated, but
    /// were not settled before.
    pub drain_deadline: usize,
    /// A broker was away when the commit was due.
    pub outage: usize,
    /// The first one's partition was given back without the broker's answer to its last commit, or
    /// with an owner that had not ended.
    pub unanswered_commit: usize,
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
        found.drain_deadline += attempts
            .windows(2)
            .filter(|pair| was_dropped(history, pair[0], pair[1]))
            .count();
        let settled: Vec<&&Attempt> = attempts
            .iter()
            .filter(|attempt| attempt.settled())
            .collect();
        for pair in settled.windows(2) {
            match cause(history, pair[0], pair[1]) {
                Some(Cause::Crash) => found.crash += 1,
                Some(Cause::Lost) => found.lost_assignment += 1,
                Some(Cause::Outage) => found.outage += 1,
                Some(Cause::Unanswered) => found.unanswered_commit += 1,
                None => {
                    found.unexplained += 1;
                    unexplained.push(format!(
                        "{} AFTER {}",
                        history.show(pair[1]),
                        history.show(pair[0])
                    ));
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
    Unanswered,
}

fn cause(history: &History, first: &Attempt, again: &Attempt) -> Option<Cause> {
    let life = &history.lives[first.life];
    let session = nanos(Duration::from_millis(
        history.evidence.common.session_timeout_ms,
    ));
    // What was cut off later had been committed.
    let committed_by = history.committed_by(first.end, life);
    if life
        .end
        .is_some_and(|(end, how)| how != End::Orderly && end >= first.start && end <= again.start)
    {
        return Some(Cause::Crash);
    }
    let stopped = life
        .stops
        .iter()
        .any(|stop| stop.meets(first.start, committed_by));
    // The group may have given its partitions away long before it learns of it.
    let lost = life
        .lost
        .iter()
        .any(|&lost| lost >= first.start && lost <= committed_by + session);
    let later = |at: Nanos| at >= first.end && at <= again.start;
    if stopped || lost {
        Some(Cause::Lost)
    } else if history.outage(first.end, again.start)
        || history.lives[again.life]
            .unreadable
            .iter()
            .any(|&at| later(at))
    {
        Some(Cause::Outage)
    } else if was_given_up(life, first, again, committed_by) {
        Some(Cause::Unanswered)
    } else {
        None
    }
}

/// Whether the first one's partition went to the other before what it had settled was committed.
fn was_given_up(life: &Life, first: &Attempt, again: &Attempt, committed_by: Nanos) -> bool {
    // Not only what was settled by then: an attempt whose owner does not end may go on.
    let uncommitted = |span: Span| {
        span.meets(first.start, committed_by) && span.to <= again.start + nanos(SAME_DRAIN)
    };
    is_handed_over(first, again) && life.given_up.iter().any(|&span| uncommitted(span))
}

fn is_handed_over(first: &Attempt, again: &Attempt) -> bool {
    (first.life, first.epoch) != (again.life, again.epoch)
}

fn was_dropped(history: &History, first: &Attempt, again: &Attempt) -> bool {
    let given_back = &history.lives[first.life].given_back;
    let near = |at: Nanos| (at - first.end).abs() <= nanos(SAME_DRAIN);
    first.outcome == Some(Outcome::CutOff)
        && is_handed_over(first, again)
        && given_back.iter().any(|&(at, dropped)| dropped && near(at))
}

#[cfg(test)]
mod tests {
    use super::{super::testing::Story, Duplicates, find};
    use crate::journal::{Deed, Note, Outcome, Sent};

    /// Done by a, and done by b eight seconds later.
    fn twice() -> Story {
        Story::of(1).ran("a", 0, (1_000, 1_100), Outcome::Done).ran(
            "b",
            0,
            (9_000, 9_100),
            Outcome::Done,
        )
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
        assert_eq!(
            causes(twice().kill("a", 1_500)),
            Duplicates {
                crash: 1,
                ..Duplicates::default()
            }
        );
        assert_eq!(causes(twice().kill("b", 1_500)).unexplained, 1);
        assert_eq!(causes(twice().kill("a", 9_500)).unexplained, 1);
        let lost = Duplicates {
            lost_assignment: 1,
            ..Duplicates::default()
        };
        assert_eq!(causes(twice().note("a", 1_500, Note::Lost)), lost);
        assert_eq!(causes(twice().note("a", 20_000, Note::Lost)).unexplained, 1);
        assert_eq!(
            causes(
                twice()
                    .signal("a", 1_050, Sent::Stop)
                    .signal("a", 8_900, Sent::Continue)
            ),
            lost
        );
        assert_eq!(
            causes(twice().signal("a", 6_000, Sent::Stop)).unexplained,
            1
        );
        let out = |what: &str| {
            let what = what.to_owned();
            twice()
                .deed(1_200, Deed::Out { what: what.clone() })
                .deed(3_000, Deed::Back { what })
        };
        assert_eq!(
            causes(out("broker 1")),
            Duplicates {
                outage: 1,
                ..Duplicates::default()
            }
        );
        assert_eq!(causes(out("dead letters")).unexplained, 1);
    }

    /// Settled at 1,100 ms, with a commit interval of half a second.
    #[test]
    fn a_commit_may_be_on_its_way_as_long_as_the_run_grants() {
        let stopped = |at, grace_ms| {
            let story = twice()
                .commit_grace(grace_ms)
                .signal("a", at, Sent::Stop)
                .signal("a", 8_900, Sent::Continue);
            causes(story).lost_assignment
        };
        assert_eq!(
            [
                stopped(2_500, 1_000),
                stopped(2_700, 1_000),
                stopped(2_700, 10_000)
            ],
            [1, 0, 1]
        );
        let lost = |at, grace_ms| {
            causes(twice().commit_grace(grace_ms).note("a", at, Note::Lost)).lost_assignment
        };
        assert_eq!(
            [lost(8_500, 1_000), lost(8_700, 1_000), lost(8_700, 10_000)],
            [1, 0, 1]
        );
    }

    #[test]
    fn a_pause_and_a_lost_assignment_explain_what_waited_for_a_rebalance_that_overlapped() {
        let stopped = |from, to| {
            let story = twice()
                .signal("a", 6_000, Sent::Stop)
                .signal("a", 8_900, Sent::Continue);
            causes(story.rebalance(from, to)).lost_assignment
        };
        assert_eq!(stopped(1_500, 5_900), 1);
        // Over before it was settled, over long before the pause, and begun when the commit was
        // through.
        assert_eq!(
            [
                stopped(500, 1_000),
                stopped(1_500, 3_000),
                stopped(3_000, 5_900)
            ],
            [0; 3]
        );
        let lost = |from, to| {
            causes(twice().note("a", 12_000, Note::Lost).rebalance(from, to)).lost_assignment
        };
        assert_eq!(
            [lost(1_500, 5_900), lost(1_500, 3_000), lost(3_000, 5_900)],
            [1, 0, 0]
        );
    }

    /// A hand-over that gave up; it took half a second.
    fn unanswered(story: Story, member: &str, at: i64) -> Story {
        let given_back = Note::GivenBack {
            dropped: false,
            took_ms: 500,
        };
        story
            .note(member, at, Note::Unanswered)
            .note(member, at, given_back)
    }

    #[test]
    fn a_last_commit_without_an_answer_explains_what_it_would_have_committed() {
        let explained = Duplicates {
            unanswered_commit: 1,
            ..Duplicates::default()
        };
        assert_eq!(causes(unanswered(twice(), "a", 3_000)), explained);
        assert_eq!(causes(unanswered(twice(), "a", 900)).unexplained, 1);
        assert_eq!(causes(unanswered(twice(), "a", 3_200)).unexplained, 1);
        assert_eq!(causes(unanswered(twice(), "b", 3_000)).unexplained, 1);
        // What waited for a rebalance was to be in it, too.
        assert_eq!(
            causes(unanswered(twice().rebalance(1_500, 3_500), "a", 4_500)),
            explained
        );
        let answered = Note::GivenBack {
            dropped: false,
            took_ms: 500,
        };
        assert_eq!(causes(twice().note("a", 3_000, answered)).unexplained, 1);
    }

    #[test]
    fn an_unanswered_commit_explains_nothing_within_an_epoch_or_before_it_is_given_up() {
        let again = |epoch, at| {
            let story = unanswered(
                Story::of(1).ran("a", 0, (1_000, 1_100), Outcome::Done),
                "a",
                2_500,
            );
            causes(story.attempt("a", epoch, ("t", 0, 1), (at, at + 50), Some(Outcome::Done)))
                .unanswered_commit
        };
        assert_eq!(
            [again(2, 3_000), again(1, 3_000), again(2, 1_200)],
            [1, 0, 0]
        );
    }

    #[test]
    fn an_attempt_that_its_drain_cut_off_is_counted_when_it_is_repeated() {
        let story = |dropped| {
            let story = Story::of(1).ran("a", 0, (1_000, 2_000), Outcome::CutOff);
            let given_back = Note::GivenBack {
                dropped,
                took_ms: 1_000,
            };
            story
                .note("a", 2_100, given_back)
                .ran("b", 0, (3_000, 3_100), Outcome::Done)
        };
        assert_eq!(
            causes(story(true)),
            Duplicates {
                drain_deadline: 1,
                ..Duplicates::default()
            }
        );
        assert_eq!(causes(story(false)), Duplicates::default());
    }
}
