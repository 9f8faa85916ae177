//! An attempt in a task of its own.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use keylane_core::{Failure, Ticket};

use super::first_poll::Pending;
use super::outcome::AttemptOutcome;
use crate::processing::EpochGuard;
use crate::runtime::inbox::{Finished, Inbox};
use crate::support::clock;

/// Where an attempt got its first poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PolledIn {
    /// The owner polled it, and measured that poll.
    Owner,
    /// Its own task polls it first.
    Task,
}

/// Runs an attempt in a task of its own, within the time-out, and reports every end to the inbox.
/// That includes a task that is dropped, also before its first poll, and a panic while the
/// processor's future is dropped.
pub(crate) fn run_spawned<F: Future<Output = AttemptOutcome>>(
    attempt: Pending<F>,
    polled_in: PolledIn,
    ticket: Ticket,
    started: Instant,
    timeout: Duration,
    inbox: Arc<Inbox>,
    guard: EpochGuard,
) -> impl Future<Output = ()> {
    let busy = (polled_in == PolledIn::Task).then_some(Duration::ZERO);
    let report = Report {
        inbox,
        ticket,
        started,
        busy,
        outcome: None,
    };
    let mut held = Spawned {
        attempt,
        report,
        _guard: guard,
    };
    async move {
        let Spawned {
            attempt, report, ..
        } = &mut held;
        let deadline = tokio::time::Instant::from_std(started) + timeout;
        let timed = tokio::time::timeout_at(
            deadline,
            Timed {
                future: attempt,
                busy: report.busy.as_mut(),
            },
        )
        .await;
        report.outcome = Some(timed.unwrap_or_else(|_| {
            AttemptOutcome::failed(
                Failure::TimedOut,
                format!("the attempt took longer than {timeout:?}"),
            )
        }));
    }
}

/// Dropped in this order, whether it was polled or not: what is reported has ended.
struct Spawned<F> {
    attempt: Pending<F>,
    report: Report,
    _guard: EpochGuard,
}

struct Report {
    inbox: Arc<Inbox>,
    ticket: Ticket,
    started: Instant,
    busy: Option<Duration>,
    outcome: Option<AttemptOutcome>,
}

impl Drop for Report {
    fn drop(&mut self) {
        self.inbox.finished(Finished {
            ticket: self.ticket,
            outcome: self.outcome.take(),
            elapsed: clock::elapsed(self.started),
            busy: self.busy,
        });
    }
}

/// Adds up the time its thread spends on a future, where that is wanted.
struct Timed<'a, F> {
    future: &'a mut Pending<F>,
    busy: Option<&'a mut Duration>,
}

impl<F: Future> Future for Timed<'_, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        let Some(busy) = &mut this.busy else {
            return Pin::new(&mut *this.future).poll(context);
        };
        let begin = clock::now();
        let poll = Pin::new(&mut *this.future).poll(context);
        **busy += clock::elapsed(begin);
        poll
    }
}

#[cfg(test)]
mod tests {
    use keylane_core::{
        Delivery, Epoch, Moment, Offset, Partition, PartitionSettings, Position, SettledMap,
    };

    use super::*;
    use crate::runtime::inbox::Mail;

    #[tokio::test]
    async fn an_attempt_that_is_dropped_before_its_first_poll_is_reported_all_the_same() {
        let ticket = a_ticket();
        let inbox = Arc::new(Inbox::new(0, false));
        let attempt = Pending::fresh(std::future::ready(AttemptOutcome::Done));
        let guard = inbox.life().enter();
        let (started, timeout) = (Instant::now(), Duration::from_secs(60));
        drop(run_spawned(
            attempt,
            PolledIn::Task,
            ticket,
            started,
            timeout,
            inbox.clone(),
            guard,
        ));
        let mut mail = Mail::default();
        inbox.take(&mut mail);
        assert!(matches!(
            mail.finished[..],
            [Finished { outcome: None, .. }]
        ));
    }

    fn a_ticket() -> Ticket {
        let settings = Arc::new(PartitionSettings::default());
        let mut partition = Partition::new(
            settings,
            Epoch::new(1),
            Some(Position::new(0)),
            SettledMap::new(),
        );
        let offset = Offset::new(0);
        let delivery = Delivery {
            offset,
            lane: None,
            bytes: 0,
            due: None,
            rounds: 0,
            attempts: 0,
            retried_for: Duration::ZERO,
            record: (),
        };
        partition.deliver(delivery, Moment::ORIGIN);
        assert!(partition.next_start_needs_mark());
        partition.mark_confirmed(partition.wanted_mark().unwrap());
        partition.next_start().unwrap().ticket
    }
}
