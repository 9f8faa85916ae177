//! One attempt: decode, process, and turn whatever happens into an outcome.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use keylane_core::{Failure, Ticket};

use super::inbox::{Finished, Inbox};
use super::stage::Staged;
use super::work::{OwnersWork, Work};
use crate::metrics::AttemptResult;
use crate::processing::{Cause, EpochGuard, Source, TaskErrorKind};
use crate::support::{clock, error_text, panics};
use crate::{Decode, Processor, Record, Task, TaskError};

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
        self.attempt
            == self
                .record
                .retry_state()
                .map_or(0, |retry| retry.attempts)
                .saturating_add(1)
    }
}

/// How an attempt ended.
pub(super) enum AttemptOutcome {
    Done,
    Skipped {
        reason: String,
    },
    Failed {
        failure: Failure,
        error: String,
        cause: Cause,
    },
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

    /// The error's text, or the reason of a skip.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Done => None,
            Self::Skipped { reason: text } | Self::Failed { error: text, .. } => Some(text),
        }
    }

    fn of(answer: Result<(), TaskError>) -> Self {
        let Err(error) = answer else {
            return Self::Done;
        };
        let failure = match (error.kind(), error.delay()) {
            (TaskErrorKind::Skip, _) => {
                return Self::Skipped {
                    reason: error.chain(),
                };
            }
            (TaskErrorKind::Fatal, _) => Failure::Fatal,
            (TaskErrorKind::Unavailable, retry_after) => Failure::Unavailable { retry_after },
            (TaskErrorKind::Retryable, None) => Failure::Retryable,
            (TaskErrorKind::Retryable, Some(delay)) => Failure::RetryAfter(delay),
        };
        Self::Failed {
            failure,
            error: error.chain(),
            cause: error.cause,
        }
    }

    /// A failure that is not an answer of the processor: a class of its own.
    pub(super) fn failed(failure: Failure, error: impl Into<String>) -> Self {
        Self::Failed {
            failure,
            error: error.into(),
            cause: Cause::of_class(failure.reason().as_str()),
        }
    }
}

/// Makes one attempt, in a span of its own. Never panics, whatever the decoder or the processor
/// does.
///
/// The attempt of every record is moved into its place, so it is kept small: decoder and processor
/// are called here, not in a future of their own that would hold the task once more.
#[expect(
    clippy::manual_async_fn,
    reason = "an async fn has room for its arguments twice"
)]
pub(super) fn attempt<T, D: Decode<T>, P: Processor<T>>(
    work: Arc<OwnersWork<D, P>>,
    call: Call,
) -> impl Future<Output = AttemptOutcome> + Send {
    async move {
        let work = &*work.0;
        // Before the future, so that it outlives it: what is dropped belongs to the attempt.
        let mut span = work
            .spans
            .open(&call.source, &call.record, call.attempt, call.ends);
        // Not by `tracing`'s own wrapper, which costs more where nobody listens.
        let begun = {
            let _within = span.as_ref().map(|span| span.enter());
            caught(|| begin(work, call))
        };
        let outcome = match begun {
            Ok(Ok(future)) => {
                let mut future = pin!(Some(future));
                let outcome = poll_fn(|context| {
                    let _within = span.as_ref().map(|span| span.enter());
                    let future = future.as_mut().as_pin_mut();
                    caught(|| future.map(|future| future.poll(context).map(AttemptOutcome::of)))
                        .map_or_else(Poll::Ready, |polled| polled.unwrap_or(Poll::Pending))
                })
                .await;
                // What it still holds may panic too. Where it has failed already, that is what
                // counts.
                let _within = span.as_ref().map(|span| span.enter());
                match (caught(|| future.set(None)), outcome) {
                    (Err(panicked), AttemptOutcome::Done | AttemptOutcome::Skipped { .. }) => {
                        panicked
                    }
                    (_, outcome) => outcome,
                }
            }
            Ok(Err(outcome)) | Err(outcome) => outcome,
        };
        if let Some(span) = &mut span {
            span.ended(outcome.label());
        }
        outcome
    }
}

fn begin<T, D: Decode<T>, P: Processor<T>>(
    work: &Work<D, P>,
    call: Call,
) -> Result<impl Future<Output = Result<(), TaskError>> + Send, AttemptOutcome> {
    let Call {
        record,
        source,
        attempt,
        ends,
    } = call;
    match work.decoder.decode(&record) {
        Ok(payload) => Ok(work.processor.process(Task {
            payload,
            record,
            source,
            attempt,
            ends: Some(ends),
        })),
        Err(error) => Err(AttemptOutcome::failed(
            Failure::Undecodable,
            error.to_string(),
        )),
    }
}

fn caught<R>(call: impl FnOnce() -> R) -> Result<R, AttemptOutcome> {
    panics::caught_as(call, |words| {
        let error = format!("the attempt panicked: {}", error_text::text(words));
        AttemptOutcome::failed(Failure::Panicked, error)
    })
}

/// Where an attempt got its first poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FirstPoll {
    /// In the owner, which has measured it.
    InPlace,
    /// In its own task.
    Apart,
}

/// Runs an attempt in a task of its own, within the time-out, and reports to the inbox however it
/// ends: also when the task is dropped, be it before its first poll, or dropping the processor's
/// future panics.
pub(super) fn run_apart<F: Future<Output = AttemptOutcome>>(
    attempt: Staged<F>,
    first_poll: FirstPoll,
    ticket: Ticket,
    started: Instant,
    timeout: Duration,
    inbox: Arc<Inbox>,
    guard: EpochGuard,
) -> impl Future<Output = ()> {
    let busy = (first_poll == FirstPoll::Apart).then_some(Duration::ZERO);
    let report = Report {
        inbox,
        ticket,
        started,
        busy,
        outcome: None,
    };
    let mut held = Apart {
        attempt,
        report,
        _guard: guard,
    };
    async move {
        let Apart {
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
struct Apart<F> {
    attempt: Staged<F>,
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
    future: &'a mut Staged<F>,
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
    use bytes::Bytes;
    use keylane_core::{
        Delivery, Epoch, Moment, Offset, Partition, PartitionSettings, Position, SettledMap,
    };
    use tracing::Dispatch;
    use tracing_subscriber::EnvFilter;
    use tracing_subscriber::layer::SubscriberExt;

    use super::super::inbox::Mail;
    use super::super::stage::Stage;
    use super::*;
    use crate::record::Arena;
    use crate::support::error_text::tests::{is_bounded, long_error};
    use crate::trace::AttemptSpans;
    use crate::{DecodeError, Raw, SubscriptionConfig};

    /// What user code can panic at, besides its own work.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum PanicsAt {
        Nothing,
        Decode,
        Call,
        Poll,
        Drop,
        Display,
        /// And the panic's payload panics when it is dropped.
        Payload,
    }

    struct Bomb;

    impl std::ops::Drop for Bomb {
        fn drop(&mut self) {
            panic!("it goes off")
        }
    }

    impl Decode<PanicsAt> for PanicsAt {
        fn decode(&self, _record: &Record) -> Result<PanicsAt, DecodeError> {
            assert_ne!(*self, PanicsAt::Decode);
            Ok(*self)
        }
    }

    /// A future by hand: one by `async` gives up what it holds before it is over.
    struct ByHand(PanicsAt);

    impl Future for ByHand {
        type Output = Result<(), TaskError>;

        fn poll(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Self::Output> {
            assert_ne!(self.0, PanicsAt::Poll);
            if self.0 == PanicsAt::Payload {
                std::panic::panic_any(Bomb);
            }
            Poll::Ready(if self.0 == PanicsAt::Display {
                Err(Mute.into())
            } else {
                Ok(())
            })
        }
    }

    impl Drop for ByHand {
        fn drop(&mut self) {
            assert_ne!(self.0, PanicsAt::Drop);
        }
    }

    /// An error that cannot say what it is.
    #[derive(Debug)]
    struct Mute;

    impl std::error::Error for Mute {}

    impl std::fmt::Display for Mute {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("no words")
        }
    }

    #[test]
    fn a_panic_of_user_code_is_the_attempts_outcome_wherever_it_happens() {
        use PanicsAt::*;
        for panics_at in [Nothing, Decode, Call, Poll, Drop, Display, Payload] {
            let work = work(panics_at, |task: Task<PanicsAt>| {
                assert_ne!(task.payload, Call);
                ByHand(task.payload)
            });
            let outcome = Stage::new().poll(attempt(work, call()));
            match outcome {
                Ok(AttemptOutcome::Done) => assert_eq!(panics_at, Nothing),
                Ok(AttemptOutcome::Failed {
                    failure: Failure::Panicked,
                    ..
                }) => assert_ne!(panics_at, Nothing),
                _ => panic!("{panics_at:?}: neither done nor a panic"),
            }
        }
    }

    /// What user code can fail with.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Says {
        /// A value that is undecodable, at length.
        Undecodable,
        OwnSource,
        Long,
        LongSkip,
        LongPanic,
    }

    impl Decode<Says> for Says {
        fn decode(&self, _record: &Record) -> Result<Says, DecodeError> {
            if *self == Says::Undecodable {
                Err(DecodeError::new(long_error()))
            } else {
                Ok(*self)
            }
        }
    }

    /// Point 16.
    #[test]
    fn what_user_code_says_of_its_failure_is_bounded() {
        use Says::*;
        for says in [Undecodable, OwnSource, Long, LongSkip, LongPanic] {
            let fails = async |task: Task<Says>| match task.payload {
                Undecodable => Ok(()),
                OwnSource => Err(error_text::tests::OwnSource.into()),
                Long => Err(long_error().into()),
                LongSkip => Err(TaskError::skip(long_error())),
                LongPanic => std::panic::panic_any("x".repeat(20 << 20)),
            };
            let text = match Stage::new().poll(attempt(work(says, fails), call())) {
                Ok(
                    AttemptOutcome::Failed { error, .. }
                    | AttemptOutcome::Skipped { reason: error },
                ) => error,
                _ => panic!("{says:?}: no failure"),
            };
            assert!(is_bounded(&text), "{says:?}: {} bytes", text.len());
        }
    }

    #[tokio::test]
    async fn an_attempt_that_is_dropped_before_its_first_poll_is_reported_all_the_same() {
        let ticket = a_ticket();
        let inbox = Arc::new(Inbox::new(0, false));
        let attempt = Staged::fresh(std::future::ready(AttemptOutcome::Done));
        let guard = inbox.life().enter();
        let (started, timeout) = (Instant::now(), Duration::from_secs(60));
        drop(run_apart(
            attempt,
            FirstPoll::Apart,
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

    #[test]
    fn the_future_of_an_attempt_is_no_more_than_four_tasks_large() {
        let attempt = attempt::<Bytes, _, _>(work(Raw, nothing_to_do), call());
        let (size, task) = (size_of_val(&attempt), size_of::<Task<Bytes>>());
        assert!(size <= 4 * task, "{size} bytes, a task has {task}");
    }

    fn work<D, P>(decoder: D, processor: P) -> Arc<OwnersWork<D, P>> {
        let spans = AttemptSpans::new(&SubscriptionConfig::new("group", "topic"));
        Arc::new(OwnersWork(Arc::new(Work {
            decoder,
            processor,
            spans,
        })))
    }

    async fn nothing_to_do(task: Task<Bytes>) -> Result<(), TaskError> {
        std::hint::black_box(&task);
        Ok(())
    }

    fn call() -> Call {
        let source = Arc::new(Source {
            topic: "topic".into(),
            partition: 0,
            life: Arc::default(),
        });
        let record = Record::new(
            &mut Arena::default(),
            7,
            None,
            Some(b"key"),
            Some(b"value"),
            None,
        );
        Call {
            record,
            source,
            attempt: 1,
            ends: Instant::now() + Duration::from_secs(60),
        }
    }

    #[test]
    #[ignore = "a measurement: cargo test --release -p keylane -- --ignored --nocapture cost_of_attempts"]
    fn cost_of_attempts_by_who_listens_to_their_spans() {
        const ATTEMPTS: u32 = 10_000;
        let filtered = |filter: &str| {
            let to_nowhere = tracing_subscriber::fmt::layer().with_writer(std::io::sink);
            Dispatch::new(
                tracing_subscriber::registry()
                    .with(EnvFilter::new(filter))
                    .with(to_nowhere),
            )
        };
        let work = work(Raw, nothing_to_do);
        let Call { record, source, .. } = call();
        let mut stage = Stage::new();
        for (who, filter) in [
            ("nobody", None),
            (
                "a subscriber that leaves them out",
                Some("info,keylane::process=off"),
            ),
            ("a subscriber that writes no line", Some("info")),
        ] {
            // One at a time: any that is there is asked.
            let dispatch = filter.map_or_else(Dispatch::none, filtered);
            let mut run = || {
                let start = Instant::now();
                for _ in 0..ATTEMPTS {
                    let (record, source) = (record.clone(), source.clone());
                    let call = Call {
                        record,
                        source,
                        attempt: 1,
                        ends: start + Duration::from_secs(60),
                    };
                    let outcome = stage.poll(attempt::<Bytes, _, _>(work.clone(), call));
                    assert!(matches!(outcome, Ok(AttemptOutcome::Done)));
                }
                start.elapsed().as_nanos() as f64 / f64::from(ATTEMPTS)
            };
            let least = tracing::dispatcher::with_default(&dispatch, || {
                (0..200).map(|_| run()).fold(f64::MAX, f64::min)
            });
            println!("{who} listens: {least:.1} ns an attempt");
        }
    }
}
