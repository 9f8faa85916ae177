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
use crate::status::Place;
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
    place: Place,
    report: Report,
    guard: EpochGuard,
    timeout: Duration,
) -> impl Future<Output = ()> {
    let mut held = Spawned {
        attempt,
        _place: place,
        report,
        _guard: guard,
    };
    async move {
        let Spawned {
            attempt, report, ..
        } = &mut held;
        let deadline = tokio::time::Instant::from_std(report.started) + timeout;
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

/// Dropped in this order, whether it was polled or not: what is reported has ended, and has given
/// its place back.
struct Spawned<F> {
    attempt: Pending<F>,
    _place: Place,
    report: Report,
    _guard: EpochGuard,
}

/// Tells the inbox, when it is dropped.
pub(crate) struct Report {
    inbox: Arc<Inbox>,
    ticket: Ticket,
    started: Instant,
    busy: Option<Duration>,
    outcome: Option<AttemptOutcome>,
}

impl Report {
    pub(crate) fn new(
        inbox: Arc<Inbox>,
        ticket: Ticket,
        started: Instant,
        polled_in: PolledIn,
    ) -> Self {
        Self {
            inbox,
            ticket,
            started,
            busy: (polled_in == PolledIn::Task).then_some(Duration::ZERO),
            outcome: None,
        }
    }
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
    use crate::status::Places;

    #[tokio::test]
    async fn an_attempt_that_is_dropped_before_its_first_poll_is_reported_and_gives_its_place_back()
    {
        let ticket = a_ticket();
        let inbox = Arc::new(Inbox::new(0, false));
        let attempt = Pending::fresh(std::future::ready(AttemptOutcome::Done));
        let guard = inbox.life().enter();
        let report = Report::new(inbox.clone(), ticket, Instant::now(), PolledIn::Task);
        let timeout = Duration::from_secs(60);
        let (places, taken) = (Places::new(1), |places: &Places| {
            places.in_flight().attempts
        });
        let place = places.try_take().unwrap();
        let task = run_spawned(attempt, place, report, guard, timeout);
        assert_eq!(taken(&places), 1);
        drop(task);
        assert_eq!(taken(&places), 0);
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
