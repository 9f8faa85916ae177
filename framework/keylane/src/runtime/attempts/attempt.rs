//! One attempt: decode, process, and turn whatever happens into an outcome.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use keylane_core::Failure;

use super::outcome::AttemptOutcome;
use crate::processing::Source;
use crate::record::Record;
use crate::runtime::shared::{OwnersWork, Work};
use crate::support::{error_text, panics};
use crate::{Decode, Processor, Success, Task, TaskError};

/// What an attempt needs to know of its record.
pub(crate) struct Call {
    pub(crate) record: Record,
    pub(crate) source: Arc<Source>,
    pub(crate) attempt: u32,
    /// When it began, at the check of the lease.
    pub(crate) began: Instant,
    /// See [`Task::failing_for`].
    pub(crate) failing_for_millis: u32,
    /// When its time is up.
    pub(crate) ends: Instant,
}

impl Call {
    /// Whether it is the first attempt since the record was delivered.
    pub(crate) fn is_first_here(&self) -> bool {
        self.attempt
            == self
                .record
                .retry_state()
                .map_or(0, |retry| retry.attempts)
                .saturating_add(1)
    }
}

/// Makes one attempt, in a span of its own. Never panics, whatever the decoder or the processor
/// does.
///
/// The attempt of every record is moved into its place, so it is kept small. Decoder and processor
/// are called here, not in a future of their own, which would hold the task once more.
#[expect(
    clippy::manual_async_fn,
    reason = "an async fn has room for its arguments twice"
)]
pub(crate) fn attempt<T, O: Into<Success>, D: Decode<T>, P: Processor<T, O>>(
    work: Arc<OwnersWork<D, P>>,
    call: Call,
) -> impl Future<Output = AttemptOutcome> + Send {
    async move {
        let work = &*work.0;
        // Before the future, so that it outlives it: what is dropped belongs to the attempt.
        let mut span = work
            .spans
            .open(&call.source, &call.record, call.attempt, call.ends);
        // Not by `tracing`'s own wrapper, which costs more without a subscriber.
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

fn begin<T, O: Into<Success>, D: Decode<T>, P: Processor<T, O>>(
    work: &Work<D, P>,
    call: Call,
) -> Result<impl Future<Output = Result<O, TaskError>> + Send, AttemptOutcome> {
    let Call {
        record,
        source,
        attempt,
        began,
        failing_for_millis,
        ends,
    } = call;
    match work.decoder.decode(&record) {
        Ok(payload) => Ok(work.processor.process(Task {
            payload,
            record,
            source,
            attempt,
            began,
            failing_for_millis,
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

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::sync::OnceLock;
    use std::task::Context;
    use std::time::Duration;

    use bytes::Bytes;

    use super::super::first_poll::FirstPoll;
    use super::*;
    use crate::record::Arena;
    use crate::record::DecodeError;
    use crate::support::error_text::tests::{is_bounded, long_error};
    use crate::trace::AttemptSpans;
    use crate::{Raw, SubscriptionConfig};

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

    /// An error whose text panics.
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
            let outcome = FirstPoll::new().poll(attempt(work, call()));
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
                Undecodable => Ok(Success::Done),
                OwnSource => Err(error_text::tests::OwnSource.into()),
                Long => Err(long_error().into()),
                LongSkip => Ok(Success::skipped(long_error().to_string())),
                LongPanic => std::panic::panic_any("x".repeat(20 << 20)),
            };
            let text = match FirstPoll::new().poll(attempt(work(says, fails), call())) {
                Ok(
                    AttemptOutcome::Failed { error, .. }
                    | AttemptOutcome::Skipped { reason: error },
                ) => error,
                _ => panic!("{says:?}: no failure"),
            };
            assert!(is_bounded(&text), "{says:?}: {} bytes", text.len());
        }
    }

    #[test]
    fn the_future_of_an_attempt_is_no_more_than_four_tasks_large() {
        let attempt = attempt::<Bytes, (), _, _>(work(Raw, nothing_to_do), call());
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
            log: OnceLock::new(),
            names_logs: false,
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
            began: Instant::now(),
            failing_for_millis: 0,
            ends: Instant::now() + Duration::from_secs(60),
        }
    }
}
