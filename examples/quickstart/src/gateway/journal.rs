//! What the gateway saw, in the order in which it saw it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Every request, by vehicle, in order of arrival. Grows with the number of events, which the
/// command line bounds.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    /// Ticks once whenever a request begins or ends, so no two of these share a time and none is
    /// missed between two.
    clock: u64,
    runs: HashMap<String, HashMap<String, VehicleLog>>,
}

/// The requests about one vehicle.
#[derive(Clone, Debug, Default)]
pub(crate) struct VehicleLog {
    pub(crate) requests: Vec<Request>,
    accepted: HashSet<u32>,
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) seq: u32,
    /// The journal's clock when the request had been read.
    pub(crate) began: u64,
    /// The clock and the answer when that was given; nothing while the request is under way.
    pub(crate) end: Option<(u64, Answer)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    Accepted,
    Busy,
    UnknownDevice,
    /// The client hung up before the answer.
    Abandoned,
}

/// Whether an acceptance was the first of its notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acceptance {
    First,
    Not,
}

impl Journal {
    /// Notes that a request has arrived. It is under way until the entry is closed or dropped.
    pub(crate) fn open(self: &Arc<Self>, run: &str, vehicle: &str, seq: u32) -> Entry {
        let mut book = self.book();
        let began = book.tick();
        let log = book.log(run, vehicle);
        let nth = log
            .requests
            .iter()
            .rev()
            .take_while(|request| request.seq == seq)
            .count() as u64;
        let index = log.requests.len();
        log.requests.push(Request {
            seq,
            began,
            end: None,
        });
        Entry {
            journal: self.clone(),
            run: run.to_owned(),
            vehicle: vehicle.to_owned(),
            index,
            nth,
            closed: false,
        }
    }

    /// The requests of one run, by vehicle.
    pub(crate) fn of_run(&self, run: &str) -> HashMap<String, VehicleLog> {
        self.book().runs.get(run).cloned().unwrap_or_default()
    }

    /// Requests about events that an earlier run left on the topic.
    pub(crate) fn of_other_runs(&self, run: &str) -> u64 {
        let book = self.book();
        let others = book.runs.iter().filter(|(other, _)| *other != run);
        others
            .flat_map(|(_, vehicles)| vehicles.values())
            .map(|log| log.requests.len() as u64)
            .sum()
    }

    // Nothing panics while it holds the lock, so a poisoned book would still be whole.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn log(&mut self, run: &str, vehicle: &str) -> &mut VehicleLog {
        self.runs
            .entry(run.to_owned())
            .or_default()
            .entry(vehicle.to_owned())
            .or_default()
    }
}

/// A request under way.
pub(crate) struct Entry {
    journal: Arc<Journal>,
    run: String,
    vehicle: String,
    index: usize,
    nth: u64,
    closed: bool,
}

impl Entry {
    /// How many requests for the same notification came directly before this one.
    pub(crate) fn nth(&self) -> u64 {
        self.nth
    }

    /// Notes the answer. Call it before the answer is sent: the client's next request must come
    /// later than this end.
    pub(crate) fn close(mut self, answer: Answer) -> Acceptance {
        self.end(answer)
    }

    fn end(&mut self, answer: Answer) -> Acceptance {
        self.closed = true;
        let mut book = self.journal.book();
        let ended = book.tick();
        let log = book.log(&self.run, &self.vehicle);
        let request = &mut log.requests[self.index];
        request.end = Some((ended, answer));
        if answer == Answer::Accepted && log.accepted.insert(request.seq) {
            Acceptance::First
        } else {
            Acceptance::Not
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.closed {
            self.end(Answer::Abandoned);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(journal: &Journal) -> Vec<Request> {
        journal
            .of_run("r1")
            .remove("KL-1")
            .unwrap_or_default()
            .requests
    }

    #[test]
    fn begin_and_end_of_every_request_have_their_own_time() {
        let journal = Arc::new(Journal::default());
        let first = journal.open("r1", "KL-1", 1);
        let second = journal.open("r1", "KL-1", 2);
        first.close(Answer::Accepted);
        second.close(Answer::Busy);
        assert_eq!(
            requests(&journal),
            [
                Request {
                    seq: 1,
                    began: 1,
                    end: Some((3, Answer::Accepted))
                },
                Request {
                    seq: 2,
                    began: 2,
                    end: Some((4, Answer::Busy))
                },
            ]
        );
    }

    #[test]
    fn a_request_is_counted_among_those_for_the_same_notification() {
        let journal = Arc::new(Journal::default());
        let nth = |seq| journal.open("r1", "KL-1", seq).nth();
        assert_eq!([nth(1), nth(1), nth(1), nth(2), nth(1)], [0, 1, 2, 0, 0]);
    }

    #[test]
    fn only_the_first_acceptance_is_the_first() {
        let journal = Arc::new(Journal::default());
        assert_eq!(
            journal.open("r1", "KL-1", 1).close(Answer::Busy),
            Acceptance::Not
        );
        assert_eq!(
            journal.open("r1", "KL-1", 1).close(Answer::Accepted),
            Acceptance::First
        );
        assert_eq!(
            journal.open("r1", "KL-1", 1).close(Answer::Accepted),
            Acceptance::Not
        );
    }

    #[test]
    fn a_request_that_is_dropped_was_abandoned() {
        let journal = Arc::new(Journal::default());
        drop(journal.open("r1", "KL-1", 1));
        assert_eq!(
            requests(&journal),
            [Request {
                seq: 1,
                began: 1,
                end: Some((2, Answer::Abandoned))
            }]
        );
    }

    #[test]
    fn requests_of_another_run_are_kept_apart() {
        let journal = Arc::new(Journal::default());
        journal.open("r0", "KL-1", 1).close(Answer::Accepted);
        assert_eq!(requests(&journal), []);
        assert_eq!(journal.of_other_runs("r1"), 1);
        assert_eq!(
            journal.open("r1", "KL-1", 1).close(Answer::Accepted),
            Acceptance::First
        );
    }
}
