//! Attempts of one partition, and the tasks of those that run.

use std::future::Future;
use std::time::{Duration, Instant};

use keylane_core::Ticket;
use tokio::task::AbortHandle;

use super::first_poll::Pending;
use super::outcome::AttemptOutcome;
use super::spawn_policy::SpawnPolicy;
use super::spawned::{PolledIn, Report, run_spawned};
use crate::runtime::owned::OwnedPartition;
use crate::status::Place;

/// What an owner keeps of its attempts.
#[derive(Default)]
pub(crate) struct Attempts {
    policy: SpawnPolicy,
    /// Tasks of attempts in flight, by slot: what is dropped when the epoch ends.
    tasks: Vec<Option<AbortHandle>>,
}

impl Attempts {
    /// Whether the next attempt gets a task at once.
    pub(crate) fn spawns(&self) -> bool {
        self.policy.spawns()
    }

    /// Takes in how long a thread was busy with one attempt.
    pub(crate) fn observe(&mut self, busy: Duration) {
        self.policy.observe(busy);
    }

    /// Gives an attempt a task of its own.
    pub(crate) fn spawn<F: Future<Output = AttemptOutcome> + Send + 'static>(
        &mut self,
        owned: &OwnedPartition,
        attempt: Pending<F>,
        polled_in: PolledIn,
        ticket: Ticket,
        started: Instant,
        place: Place,
    ) {
        let timeout = owned.runtime.attempt_timeout;
        let guard = owned.source.life.enter();
        let report = Report::new(owned.inbox.clone(), ticket, started, polled_in);
        let task = tokio::spawn(run_spawned(attempt, place, report, guard, timeout));
        let slot = ticket.slot() as usize;
        if self.tasks.len() <= slot {
            self.tasks.resize_with(slot + 1, || None);
        }
        self.tasks[slot] = Some(task.abort_handle());
    }

    /// Has the future of an attempt dropped, as soon as it is not being polled.
    pub(crate) fn abort(&self, ticket: Ticket) {
        if let Some(Some(task)) = self.tasks.get(ticket.slot() as usize) {
            task.abort();
        }
    }

    /// The same for all.
    pub(crate) fn abort_all(&mut self) {
        for task in self.tasks.drain(..).flatten() {
            task.abort();
        }
    }

    /// The attempt has ended.
    pub(crate) fn forget(&mut self, ticket: Ticket) {
        if let Some(task) = self.tasks.get_mut(ticket.slot() as usize) {
            *task = None;
        }
    }
}
