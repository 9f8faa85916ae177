//! Was the order of every vehicle kept? Judged from what the gateway saw, and from nothing else.
//!
//! One rule covers order, loss and gaps: *a request about an event may arrive only when every
//! earlier event of that vehicle has been accepted or is dead-lettered*. A second one covers
//! overlap: *it may arrive only when no other request about that vehicle is under way*.

use std::collections::BTreeSet;
use std::fmt;

use super::journal::{Answer, Request};

/// The state of an event, by the topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The broker acknowledged it, so it must get to the gateway.
    Enqueued,
    /// It is on the dead-letter topic.
    DeadLettered,
    /// Its producer never got an acknowledgement: it may be on the topic or not.
    Uncertain,
}

/// What the requests about one vehicle amount to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Events that were accepted.
    pub(crate) accepted: BTreeSet<u32>,
    /// Acceptances beyond the first of an event.
    pub(crate) duplicates: u64,
    pub(crate) violations: Vec<Violation>,
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A request about `by` arrived before `seq` was accepted.
    Overtaken { vehicle: String, seq: u32, by: u32 },
    /// Requests about both events were under way at the same time.
    Overlap {
        vehicle: String,
        first: u32,
        second: u32,
    },
    /// The event was accepted and dead-lettered as well.
    SettledTwice { vehicle: String, seq: u32 },
    /// No such event was enqueued.
    Unheard { vehicle: String, seq: u32 },
}

/// Judges the requests about one vehicle, in order of arrival, where `standings` holds its events
/// from number 1.
pub(crate) fn judge(vehicle: &str, requests: &[Request], standings: &[Standing]) -> Verdict {
    let mut verdict = Verdict::default();
    // The first event that still has to be accepted, as an index. What lies before is accounted
    // for, or reported.
    let mut due = 0;
    let mut open = OpenRequests::default();
    for request in requests {
        let seq = request.seq;
        if seq == 0 || seq as usize > standings.len() {
            verdict.violations.push(Violation::Unheard {
                vehicle: vehicle.into(),
                seq,
            });
            continue;
        }
        if let Some(first) = open.overlapped_by(request) {
            verdict.violations.push(Violation::Overlap {
                vehicle: vehicle.into(),
                first,
                second: seq,
            });
        }
        while due + 1 < seq as usize {
            let earlier = due as u32 + 1;
            if standings[due] == Standing::Enqueued && !verdict.accepted.contains(&earlier) {
                verdict.violations.push(Violation::Overtaken {
                    vehicle: vehicle.into(),
                    seq: earlier,
                    by: seq,
                });
            }
            due += 1;
        }
        if matches!(request.end, Some((_, Answer::Accepted))) {
            if !verdict.accepted.insert(seq) {
                verdict.duplicates += 1;
            } else if standings[seq as usize - 1] == Standing::DeadLettered {
                verdict.violations.push(Violation::SettledTwice {
                    vehicle: vehicle.into(),
                    seq,
                });
            }
        }
    }
    verdict
}

/// The latest end among the past requests. One open request is enough to compare with, because
/// there must be none.
#[derive(Default)]
struct OpenRequests {
    latest: Option<(u64, u32)>,
}

impl OpenRequests {
    /// The event of an earlier request that had not ended when this one arrived.
    fn overlapped_by(&mut self, request: &Request) -> Option<u32> {
        let overlapped = self
            .latest
            .filter(|(ended, _)| *ended > request.began)
            .map(|(_, seq)| seq);
        let ended = match request.end {
            // A client that hung up is gone before the gateway notices it, so the end noted here
            // proves nothing.
            Some((_, Answer::Abandoned)) => return overlapped,
            Some((ended, _)) => ended,
            None => u64::MAX,
        };
        if self.latest.is_none_or(|(latest, _)| ended > latest) {
            self.latest = Some((ended, request.seq));
        }
        overlapped
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overtaken { vehicle, seq, by } => {
                write!(
                    f,
                    "vehicle {vehicle}: event {by} reached the gateway before event {seq} was accepted"
                )
            }
            Self::Overlap {
                vehicle,
                first,
                second,
            } => {
                write!(
                    f,
                    "vehicle {vehicle}: event {second} arrived while event {first} was under way"
                )
            }
            Self::SettledTwice { vehicle, seq } => {
                write!(
                    f,
                    "vehicle {vehicle}: event {seq} was accepted and is also on the dead-letter topic"
                )
            }
            Self::Unheard { vehicle, seq } => {
                write!(f, "vehicle {vehicle}: event {seq} was never enqueued")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENQUEUED: Standing = Standing::Enqueued;
    const DEAD: Standing = Standing::DeadLettered;

    /// Requests one after another, none overlapping.
    fn in_turn(requests: &[(u32, Answer)]) -> Vec<Request> {
        let times = (0..).step_by(2);
        requests
            .iter()
            .zip(times)
            .map(|((seq, answer), time)| request(*seq, time, time + 1, *answer))
            .collect()
    }

    fn request(seq: u32, began: u64, ended: u64, answer: Answer) -> Request {
        Request {
            seq,
            began,
            end: Some((ended, answer)),
        }
    }

    fn accepted(seqs: &[u32]) -> Vec<Request> {
        in_turn(
            &seqs
                .iter()
                .map(|seq| (*seq, Answer::Accepted))
                .collect::<Vec<_>>(),
        )
    }

    fn violations(requests: &[Request], standings: &[Standing]) -> Vec<Violation> {
        judge("V", requests, standings).violations
    }

    fn overtaken(seq: u32, by: u32) -> Violation {
        Violation::Overtaken {
            vehicle: "V".into(),
            seq,
            by,
        }
    }

    #[test]
    fn events_in_sequence_are_fine_with_retries_and_dead_letters_between() {
        let requests = in_turn(&[
            (1, Answer::Accepted),
            (2, Answer::Busy),
            (2, Answer::Busy),
            (2, Answer::Accepted),
            (3, Answer::UnknownDevice),
            (5, Answer::Accepted),
        ]);
        let verdict = judge("V", &requests, &[ENQUEUED, ENQUEUED, DEAD, DEAD, ENQUEUED]);
        assert_eq!(verdict.violations, []);
        assert_eq!(verdict.accepted, BTreeSet::from([1, 2, 5]));
        assert_eq!(verdict.duplicates, 0);
    }

    #[test]
    fn an_end_that_was_not_reached_is_not_a_gap() {
        assert_eq!(violations(&accepted(&[1, 2]), &[ENQUEUED; 5]), []);
    }

    #[test]
    fn a_swap_is_seen() {
        assert_eq!(
            violations(&accepted(&[2, 1]), &[ENQUEUED; 2]),
            [overtaken(1, 2)]
        );
    }

    #[test]
    fn a_gap_is_seen_for_every_event_in_it() {
        assert_eq!(
            violations(&accepted(&[1, 4]), &[ENQUEUED; 4]),
            [overtaken(2, 4), overtaken(3, 4)]
        );
    }

    #[test]
    fn going_on_while_an_event_waits_for_its_retry_is_seen() {
        let requests = in_turn(&[
            (1, Answer::Busy),
            (2, Answer::Accepted),
            (1, Answer::Accepted),
        ]);
        assert_eq!(violations(&requests, &[ENQUEUED; 2]), [overtaken(1, 2)]);
    }

    #[test]
    fn even_a_refused_request_must_not_come_early() {
        let requests = in_turn(&[
            (2, Answer::Busy),
            (1, Answer::Accepted),
            (2, Answer::Accepted),
        ]);
        assert_eq!(violations(&requests, &[ENQUEUED; 2]), [overtaken(1, 2)]);
    }

    #[test]
    fn an_uncertain_event_may_be_missing() {
        assert_eq!(
            violations(
                &accepted(&[1, 3]),
                &[ENQUEUED, Standing::Uncertain, ENQUEUED]
            ),
            []
        );
    }

    #[test]
    fn requests_at_the_same_time_are_seen() {
        let overlap = |first, second| Violation::Overlap {
            vehicle: "V".into(),
            first,
            second,
        };
        let requests = [
            request(1, 0, 5, Answer::Accepted),
            request(1, 3, 6, Answer::Accepted),
        ];
        assert_eq!(violations(&requests, &[ENQUEUED; 2]), [overlap(1, 1)]);

        let never_answered = Request {
            seq: 1,
            began: 0,
            end: None,
        };
        let requests = [never_answered, request(1, 3, 6, Answer::Busy)];
        assert_eq!(violations(&requests, &[ENQUEUED; 2]), [overlap(1, 1)]);

        let short_inside_long = [
            request(1, 0, 9, Answer::Accepted),
            request(1, 1, 2, Answer::Busy),
            request(2, 5, 10, Answer::Busy),
        ];
        assert_eq!(
            violations(&short_inside_long, &[ENQUEUED; 2]),
            [overlap(1, 1), overlap(1, 2)]
        );
    }

    #[test]
    fn a_client_that_hung_up_does_not_overlap_with_its_next_attempt() {
        let requests = [
            request(1, 0, 5, Answer::Abandoned),
            request(1, 3, 6, Answer::Accepted),
        ];
        assert_eq!(violations(&requests, &[ENQUEUED]), []);
    }

    #[test]
    fn a_repetition_counts_as_a_duplicate_and_not_as_disorder() {
        let verdict = judge("V", &accepted(&[1, 2, 3, 2, 3, 4]), &[ENQUEUED; 4]);
        assert_eq!((verdict.duplicates, verdict.violations), (2, vec![]));
    }

    #[test]
    fn what_was_dead_lettered_must_not_be_accepted_too() {
        let expected = Violation::SettledTwice {
            vehicle: "V".into(),
            seq: 1,
        };
        assert_eq!(violations(&accepted(&[1]), &[DEAD]), [expected]);
    }

    #[test]
    fn an_event_that_nobody_enqueued_is_seen() {
        let unheard = |seq| Violation::Unheard {
            vehicle: "V".into(),
            seq,
        };
        assert_eq!(
            violations(&accepted(&[0, 3]), &[ENQUEUED; 2]),
            [unheard(0), unheard(3)]
        );
    }
}
