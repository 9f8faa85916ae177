//! What was seen of the records.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keylane::testing::{LocalEvent, LocalOutcome, LocalRecord};
use keylane::{Origin, SubscriptionError};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::{Attempt, Outcome};

/// Written by the subscription, read by the test.
pub(crate) struct Seen {
    began: Instant,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    records: BTreeMap<Place, OfRecord>,
    written: Vec<LocalRecord>,
    stopped: Option<SubscriptionError>,
}

type Place = (Arc<str>, i32, i64);

struct OfRecord {
    record: Origin,
    attempts: Vec<Attempt>,
    /// Unless it is pending.
    outcome: Option<Outcome>,
}

impl Seen {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    pub(crate) fn event(&self, event: LocalEvent) {
        match event {
            LocalEvent::Attempted {
                record,
                attempt,
                result,
                text,
                ..
            } => {
                let attempt = Attempt {
                    number: attempt,
                    result,
                    text,
                    ended_after: self.began.elapsed(),
                };
                let mut state = self.state();
                let of_record = state.of(&record);
                of_record.attempts.push(attempt);
            }
            LocalEvent::Settled {
                record,
                attempts,
                outcome,
                ..
            } => match outcome {
                LocalOutcome::Done => self.settle(&record, Outcome::Done { attempts }),
                LocalOutcome::Skipped => self.settle(&record, Outcome::Skipped { attempts }),
                LocalOutcome::DeadLettered => {
                    self.settle(&record, Outcome::DeadLettered { attempts });
                }
                // It comes back from the retry topic.
                _ => {}
            },
            LocalEvent::Parked {
                record, attempts, ..
            } => self.settle(&record, Outcome::Parked { attempts }),
            LocalEvent::Stopped {
                record,
                attempts,
                error,
                ..
            } => {
                self.state().stopped = Some(error);
                self.settle(&record, Outcome::Stopped { attempts });
            }
            LocalEvent::Written(record) => self.state().written.push(record),
            _ => {}
        }
        self.changed.notify_waiters();
    }

    fn settle(&self, record: &Origin, outcome: Outcome) {
        let mut state = self.state();
        state.of(record).outcome = Some(outcome);
    }

    /// It was handed over. Its first attempt may have ended already.
    pub(crate) fn delivered(&self, record: &Origin) {
        self.state().of(record);
    }

    pub(crate) fn outcome(&self, record: &Origin) -> Outcome {
        let state = self.state();
        let of_record = state.records.get(&place(record));
        let pending = || Outcome::Pending {
            attempts: of_record.map_or(0, |it| it.attempts.len().try_into().unwrap_or(u32::MAX)),
        };
        of_record.and_then(|it| it.outcome).unwrap_or_else(pending)
    }

    pub(crate) fn attempts(&self, record: &Origin) -> Vec<Attempt> {
        let state = self.state();
        let of_record = state.records.get(&place(record));
        of_record.map(|it| it.attempts.clone()).unwrap_or_default()
    }

    pub(crate) fn written_to(&self, topic: &str) -> Vec<LocalRecord> {
        let state = self.state();
        let mut there: Vec<_> = state.written.to_vec();
        there.retain(|record| &*record.place.topic == topic);
        there
    }

    pub(crate) fn stopped(&self) -> Option<SubscriptionError> {
        self.state().stopped.clone()
    }

    pub(crate) fn pending(&self) -> Vec<Origin> {
        let state = self.state();
        let pending = state.records.iter().filter(|(_, it)| it.outcome.is_none());
        pending.map(|(_, it)| it.record.clone()).collect()
    }

    /// Waits until nothing is pending, or the subscription has stopped.
    pub(crate) async fn idle(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.state().stopped.is_some() || self.pending().is_empty() {
                return;
            }
            changed.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn of(&mut self, record: &Origin) -> &mut OfRecord {
        self.records
            .entry(place(record))
            .or_insert_with(|| OfRecord {
                record: record.clone(),
                attempts: Vec::new(),
                outcome: None,
            })
    }
}

fn place(record: &Origin) -> Place {
    (record.topic.clone(), record.partition, record.offset)
}
