//! After `kill -9`: redelivered is at most what was settled in the last commit interval, and what
//! was in flight. What waited for a rebalance ([`History::committed_by`]) may come again too.

use std::{collections::HashMap, time::Duration};

use serde::Serialize;

use super::history::{Attempt, End, History, Place};
use crate::clock::{Nanos, nanos};

/// How long after a pause a member may learn that it cost the assignment.
const NOTICED: Duration = Duration::from_secs(10);

/// What one death, or one pause that cost the assignment, led to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cut {
    /// Who.
    pub member: String,
    /// What.
    pub how: &'static str,
    /// Records that it had settled, and that were delivered again.
    pub settled_redelivered: usize,
    /// Attempts that it had not ended.
    pub in_flight: usize,
    /// What it had settled in its last commit interval, and what was in flight: what may come
    /// again.
    pub bound: usize,
    /// How long before its end the oldest of those had been settled.
    pub oldest_ms: u64,
}

/// The cuts, and what came again beyond the bound, in words.
pub fn find(history: &History) -> (Vec<Cut>, Vec<String>) {
    let mut places: HashMap<Place, Vec<&Attempt>> = HashMap::new();
    for attempt in &history.attempts {
        places.entry(attempt.place).or_default().push(attempt);
    }
    let (mut cuts, mut beyond) = (Vec::new(), Vec::new());
    for (index, life) in history.lives.iter().enumerate() {
        let death = life.end.and_then(|(at, how)| match how {
            End::Orderly => None,
            End::Killed => Some((at, "kill")),
            End::Aborted => Some((at, "abort")),
            End::Panicked => Some((at, "panic")),
        });
        // A pause that the group did not notice cuts nothing off.
        let noticed = |from: Nanos, to: Nanos| {
            life.lost
                .iter()
                .any(|&lost| lost >= from && lost <= to + nanos(NOTICED))
        };
        let stops = life
            .stops
            .iter()
            .filter(|stop| noticed(stop.from, stop.to))
            .map(|stop| (stop.from, "pause"));
        // What came before the last cut could no longer be committed, and belongs to that cut.
        let mut last_cut = Nanos::MIN;
        for (at, how) in stops.chain(death) {
            let may_come_again = at - history.on_its_way(life);
            let begun = last_cut..=at;
            let own = || {
                history
                    .attempts
                    .iter()
                    .filter(|attempt| attempt.life == index && begun.contains(&attempt.start))
            };
            last_cut = at;
            // After a panic it goes on with its commits until it has ended: what it makes up for
            // late may be the older one.
            let until = if how == "panic" { life.gone } else { at };
            let settled = || own().filter(|attempt| attempt.settled() && attempt.end <= at);
            let in_flight = own().filter(|attempt| attempt.end > at).count();
            let redelivered: Vec<&Attempt> = settled()
                .filter(|attempt| came_again(attempt, at, &places[&attempt.place]))
                .collect();
            let oldest = redelivered
                .iter()
                .map(|attempt| at - attempt.end)
                .max()
                .unwrap_or(0);
            beyond.extend(
                redelivered
                    .iter()
                    .filter(|attempt| {
                        history.committed_by(attempt.end, life) < at
                            && !history.outage(attempt.end, until)
                    })
                    .map(|attempt| {
                        format!(
                            "{} came again after the {how} at {}",
                            history.show(attempt),
                            history.clock(at)
                        )
                    }),
            );
            cuts.push(Cut {
                member: life.name.clone(),
                how,
                settled_redelivered: redelivered.len(),
                in_flight,
                bound: settled()
                    .filter(|attempt| attempt.end >= may_come_again)
                    .count()
                    + in_flight,
                oldest_ms: u64::try_from(oldest / 1_000_000).unwrap_or(0),
            });
        }
    }
    (cuts, beyond)
}

/// Whether the next one to start the record after `settled` did so after the cut.
fn came_again(settled: &Attempt, cut: Nanos, attempts: &[&Attempt]) -> bool {
    attempts
        .iter()
        .find(|attempt| attempt.start > settled.end)
        .is_some_and(|next| next.start > cut)
}

#[cfg(test)]
mod tests {
    use super::{super::testing::Story, find};
    use crate::{
        journal::{Deed, Note, Outcome, Sent},
        planted::Planted,
    };

    /// Done by a at one second, and again by b at nine; in between one that is not repeated.
    fn twice() -> Story {
        Story::of(3)
            .ran("a", 0, (900, 1_000), Outcome::Done)
            .ran("a", 1, (1_000, 1_100), Outcome::Done)
            .began("a", 2, 1_200)
            .ran("b", 0, (9_000, 9_100), Outcome::Done)
    }

    #[test]
    fn what_was_settled_in_the_last_interval_may_come_again() {
        let (cuts, beyond) = find(&twice().kill("a", 2_000).history());
        assert_eq!(beyond, Vec::<String>::new());
        let cut = &cuts[0];
        assert_eq!(
            (
                cut.settled_redelivered,
                cut.in_flight,
                cut.bound,
                cut.oldest_ms
            ),
            (1, 1, 3, 1_000)
        );
    }

    #[test]
    fn what_was_settled_before_may_not() {
        let (cuts, beyond) = find(&twice().kill("a", 3_000).history());
        assert_eq!((beyond.len(), cuts[0].bound), (1, 1));
        // Unless it could not be committed.
        let out = |what: &str| Deed::Out { what: what.into() };
        let (_, beyond) = find(
            &twice()
                .kill("a", 3_000)
                .deed(1_500, out("broker 0"))
                .history(),
        );
        assert_eq!(beyond, Vec::<String>::new());
    }

    #[test]
    fn a_panic_in_a_thread_of_keylane_is_a_cut_and_the_process_commits_until_it_has_ended() {
        let panicked = |at| {
            let gone = Deed::Exited {
                member: "a".into(),
                orderly: true,
                status: String::new(),
            };
            twice()
                .note(
                    "a",
                    at,
                    Note::Planted {
                        place: Planted::Poll,
                    },
                )
                .deed(7_000, gone)
        };
        let beyond = |story: Story| find(&story.history()).1.len();
        assert_eq!([beyond(panicked(2_000)), beyond(panicked(3_000))], [0, 1]);
        let out = |at| {
            panicked(3_000).deed(
                at,
                Deed::Out {
                    what: "broker 0".into(),
                },
            )
        };
        assert_eq!([beyond(out(6_000)), beyond(out(8_000))], [0, 1]);
    }

    #[test]
    fn a_commit_may_be_on_its_way_as_long_as_the_run_grants() {
        let beyond = |grace_ms| {
            find(&twice().commit_grace(grace_ms).kill("a", 8_000).history())
                .1
                .len()
        };
        assert_eq!(
            [beyond(1_000), beyond(6_400), beyond(6_500), beyond(10_000)],
            [1, 1, 0, 0]
        );
    }

    #[test]
    fn what_waited_for_a_rebalance_may_come_again_and_what_could_be_committed_after_it_may_not() {
        let beyond = |from, to| {
            find(&twice().kill("a", 8_000).rebalance(from, to).history())
                .1
                .len()
        };
        assert_eq!(
            [
                beyond(1_500, 7_900),
                beyond(1_500, 3_000),
                beyond(5_000, 7_900)
            ],
            [0, 1, 1]
        );
    }

    #[test]
    fn a_pause_counts_where_it_cost_the_assignment() {
        let paused = |story: Story| {
            story
                .signal("a", 3_000, Sent::Stop)
                .signal("a", 12_000, Sent::Continue)
        };
        let (cuts, beyond) = find(&paused(twice()).history());
        assert_eq!((cuts.len(), beyond.len()), (0, 0));
        let (cuts, beyond) = find(&paused(twice()).note("a", 12_100, Note::Lost).history());
        assert_eq!((cuts[0].how, beyond.len()), ("pause", 1));
    }

    #[test]
    fn what_a_pause_cut_off_is_not_cut_off_again_by_the_death_that_follows() {
        let story = twice()
            .signal("a", 1_500, Sent::Stop)
            .signal("a", 7_000, Sent::Continue);
        let story = story.note("a", 7_100, Note::Lost).kill("a", 8_000);
        let (cuts, beyond) = find(&story.history());
        let counts: Vec<_> = cuts
            .iter()
            .map(|cut| (cut.how, cut.settled_redelivered))
            .collect();
        assert_eq!(
            (&counts[..], beyond),
            (&[("pause", 1), ("kill", 0)][..], Vec::new())
        );
    }

    #[test]
    fn what_another_did_in_between_is_not_this_deaths() {
        let story = twice()
            .ran("c", 0, (5_000, 5_100), Outcome::Done)
            .kill("a", 6_000);
        let (cuts, beyond) = find(&story.history());
        assert_eq!((cuts[0].settled_redelivered, beyond.len()), (0, 0));
    }
}
