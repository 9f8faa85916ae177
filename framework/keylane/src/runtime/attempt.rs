//! One attempt: decode, process, and turn whatever happens into an outcome.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::FutureExt;
use keylane_core::{Failure, Ticket};

use super::inbox::{Finished, Inbox};
use super::life::Presence;
use super::stage::Staged;
use super::work::Work;
use crate::metrics::AttemptResult;
use crate::task::Source;
use crate::task_error::Disposition;
use crate::{Decode, Processor, Record, Task};

/// What an attempt needs to know of its record.
pub(super) struct Call {
    pub(super) record: Record,
    pub(super) source: Arc<Source>,
    pub(super) attempt: u32,
    /// When its time is up.
    pub(super) ends: Instant,
}

impl Call {
    /// Whether it is the first attempt since the record was delivered.
    pub(super) fn is_first_here(&self) -> bool {
        self.attempt == self.record.retry_state().map_or(0, |retry| retry.attempts).saturating_add(1)
    }
}

/// How an attempt ended.
pub(super) enum AttemptOutcome {
    Done,
    Skipped { reason: String },
    Failed { failure: Failure, error: String },
}

impl AttemptOutcome {
    pub(super) fn label(&self) -> AttemptResult {
        match self {
            Self::Done => AttemptResult::Ok,
            Self::Skipped { .. } => AttemptResult::Skip,
            Self::Failed { failure, .. } => match failure {
                Failure::Fatal => AttemptResult::Fatal,
                Failure::Undecodable => AttemptResult::Undecodable,
                Failure::Panicked => AttemptResult::Panic,
                Failure::TimedOut => AttemptResult::Timeout,
                _ => AttemptResult::Error,
            },
        }
    }

    fn failed(failure: Failure, error: impl Into<String>) -> Self {
        Self::Failed { failure, error: error.into() }
    }
}

/// Makes one attempt. Never panics, whatever the decoder or the processor does.
pub(super) async fn attempt<T, D: Decode<T>, P: Processor<T>>(work: Arc<Work<D, P>>, call: Call) -> AttemptOutcome {
    let answer = AssertUnwindSafe(async {
        let Call { record, source, attempt, ends } = call;
        let payload = match work.decoder.decode(&record) {
            Ok(payload) => payload,
            Err(error) => return AttemptOutcome::failed(Failure::Undecodable, error.to_string()),
        };
        match work.processor.process(Task { payload, record, source, attempt, ends: Some(ends) }).await {
            Ok(()) => AttemptOutcome::Done,
            Err(error) => match error.disposition {
                Disposition::Skip => AttemptOutcome::Skipped { reason: error.chain() },
                Disposition::Fatal => AttemptOutcome::failed(Failure::Fatal, error.chain()),
                Disposition::Retry => AttemptOutcome::failed(Failure::Retryable, error.chain()),
                Disposition::RetryAfter(delay) => AttemptOutcome::failed(Failure::RetryAfter(delay), error.chain()),
            },
        }
    })
    .catch_unwind()
    .await;
    answer.unwrap_or_else(|panic| AttemptOutcome::failed(Failure::Panicked, panic_text(panic.as_ref())))
}

/// Where an attempt got its first poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FirstPoll {
    /// In the owner, which has measured it.
    InPlace,
    /// In its own task.
    Apart,
}

/// Runs an attempt in a task of its own, within the time-out, and reports to the inbox however it ends: also when the task
/// is dropped, or dropping the processor's future panics.
pub(super) async fn run_apart<F: Future<Output = AttemptOutcome>>(
    attempt: Staged<F>,
    first_poll: FirstPoll,
    ticket: Ticket,
    started: Instant,
    timeout: Duration,
    inbox: Arc<Inbox>,
    // The last one: it is dropped after the attempt, also where this was never polled.
    _presence: Presence,
) {
    let mut report = Report { inbox, ticket, started, busy: Duration::ZERO, first_poll, outcome: None };
    let deadline = tokio::time::Instant::from_std(started) + timeout;
    let timed = tokio::time::timeout_at(deadline, Timed { future: attempt, busy: &mut report.busy }).await;
    report.outcome = Some(timed.unwrap_or_else(|_| {
        AttemptOutcome::failed(Failure::TimedOut, format!("the attempt took longer than {timeout:?}"))
    }));
}

struct Report {
    inbox: Arc<Inbox>,
    ticket: Ticket,
    started: Instant,
    busy: Duration,
    first_poll: FirstPoll,
    outcome: Option<AttemptOutcome>,
}

impl Drop for Report {
    fn drop(&mut self) {
        self.inbox.finished(Finished {
            ticket: self.ticket,
            outcome: self.outcome.take(),
            elapsed: self.started.elapsed(),
            busy: (self.first_poll == FirstPoll::Apart).then_some(self.busy),
        });
    }
}

/// Adds up the time its thread spends on a future.
struct Timed<'a, F> {
    future: Staged<F>,
    busy: &'a mut Duration,
}

impl<F: Future> Future for Timed<'_, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        let begin = Instant::now();
        let poll = Pin::new(&mut this.future).poll(context);
        *this.busy += begin.elapsed();
        poll
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the attempt panicked: {}", text.unwrap_or("(no message)"))
}
