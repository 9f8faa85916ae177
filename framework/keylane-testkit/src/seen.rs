//! What was seen of the tasks.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use keylane::record::Origin;
use keylane::testing::{LocalEvent, LocalRecord, Outcome};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::Attempt;

/// Written by the subscription, read by the test.
#[derive(Debug)]
pub(crate) struct Seen {
    began: Instant,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    tasks: BTreeMap<Origin, OfTask>,
    written: Vec<LocalRecord>,
}

#[derive(Debug, Default)]
struct OfTask {
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
        let mut state = self.state();
        match event {
            LocalEvent::Attempted {
                record,
                attempt,
                result,
                text,
                ..
            } => {
                let of_task = state.tasks.entry(record).or_default();
                of_task.attempts.push(Attempt {
                    number: attempt,
                    result,
                    text,
                    ended_after: self.began.elapsed(),
                });
            }
            LocalEvent::Ended {
                record, outcome, ..
            } => state.tasks.entry(record).or_default().outcome = Some(outcome),
            LocalEvent::Written(record) => state.written.push(record),
            _ => {}
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// It was handed over. Its first attempt may have ended already.
    pub(crate) fn delivered(&self, task: &Origin) {
        self.state().tasks.entry(task.clone()).or_default();
    }

    pub(crate) fn outcome(&self, task: &Origin) -> Outcome {
        let state = self.state();
        let of_task = state.tasks.get(task);
        let attempts = of_task.map_or(0, |it| it.attempts.len().try_into().unwrap_or(u32::MAX));
        let pending = Outcome::Pending { attempts };
        of_task.and_then(|it| it.outcome).unwrap_or(pending)
    }

    pub(crate) fn attempts(&self, task: &Origin) -> Vec<Attempt> {
        let state = self.state();
        let of_task = state.tasks.get(task);
        of_task.map(|it| it.attempts.clone()).unwrap_or_default()
    }

    pub(crate) fn written_to(&self, topic: Option<&str>) -> Vec<LocalRecord> {
        let state = self.state();
        let written = state.written.iter();
        let there = written.filter(|record| Some(&*record.place.topic) == topic);
        there.cloned().collect()
    }

    pub(crate) fn pending(&self) -> Vec<Origin> {
        let state = self.state();
        let pending = state.tasks.iter().filter(|(_, it)| it.outcome.is_none());
        pending.map(|(task, _)| task.clone()).collect()
    }

    /// Waits until nothing is pending, or a task has stopped the subscription.
    pub(crate) async fn idle(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.state().is_idle() {
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
    fn is_idle(&self) -> bool {
        let outcomes = || self.tasks.values().map(|it| it.outcome);
        outcomes().all(|it| it.is_some())
            || outcomes().any(|it| matches!(it, Some(Outcome::Stopped { .. })))
    }
}
