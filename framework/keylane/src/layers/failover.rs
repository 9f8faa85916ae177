//! Another processor, where the one inside fails.

use std::borrow::Cow;
use std::future::Future;
use std::marker::PhantomData;
use std::time::Duration;

use super::{Layer, Next};
use crate::support::{LogLimit, clock};
use crate::{Processor, Success, Task, TaskError};

/// A fail-over is a warning at most once in this time; the others are at debug level. In an outage
/// every record fails over.
const WARNED_EVERY: Duration = Duration::from_secs(30);

/// Calls another processor where what is inside fails: an SMS, where push does not answer.
///
/// Both calls are one attempt. By default every error but a [fatal](TaskError::fatal) one fails
/// over, at once. The methods make it rarer; **all of them that are used have to hold**.
///
/// What the other processor answers is the answer: its success settles the record, its error
/// decides what happens to it. The text of that error begins with that of the first one.
///
/// # What does not fail over
/// - The attempt's own time-out: it ends both. Put a [`Timeout`](super::Timeout) inside, shorter
///   than half of `attempt_timeout`.
/// - A panic: it is a retryable failure of the record, wherever it happens.
/// - A skip, which is a success.
///
/// # An effect twice
/// An error does not mean that nothing has happened. What did not answer in time may have done its
/// work, and an SMS is then sent beside the push message. Where that matters, let the first one
/// time out late, or fail over only on errors that exclude it (`connection refused`).
///
/// # Outages
/// A record whose fail-over succeeds is done: it burns no retry, and keylane sees no
/// [outage](crate::config::Outage) of the first processor. A warning in the log, at most one in 30
/// seconds, has the error and the number of fail-overs since the last one.
///
/// # Cost
/// The task is cloned before the first processor has it, if it may fail over by then: before the
/// [third attempt](Self::after) it is not.
///
/// # Examples
/// ```
/// use keylane::layers::Failover;
/// use keylane::testing::TestTask;
/// use keylane::{Processor, Task, TaskError};
///
/// async fn push(_: Task<String>) -> Result<(), TaskError> {
///     Err(TaskError::unavailable("connection refused").at("push gateway"))
/// }
///
/// async fn sms(task: Task<String>) -> Result<(), TaskError> {
///     println!("by SMS: {}", task.payload());
///     Ok(())
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// // From the third attempt on, and only where the push gateway is away.
/// let notify = push.layered(Failover::to(sms).when(|error| error.is_unavailable()).after(3));
/// let task = |attempt| TestTask::new("parked".to_owned()).attempt(attempt).build();
/// assert!(notify.process(task(2)).await.is_err());
/// assert!(notify.process(task(3)).await.is_ok());
/// # }
/// ```
pub struct Failover<T, P, O = (), W = fn(&TaskError) -> bool> {
    to: P,
    when: W,
    after_attempts: u32,
    after_failing_for: Duration,
    place: Option<Cow<'static, str>>,
    warnings: LogLimit,
    types: PhantomData<fn(T) -> O>,
}

impl<T, P, O> Failover<T, P, O>
where
    P: Processor<T, O>,
    O: Into<Success>,
{
    /// Fails over to this processor. It may have layers of its own:
    /// `Failover::to(sms.layered(Timeout::of(..)))`.
    pub fn to(processor: P) -> Self {
        Self {
            to: processor,
            when: |error| !error.is_fatal(),
            after_attempts: 0,
            after_failing_for: Duration::ZERO,
            place: None,
            warnings: LogLimit::every(WARNED_EVERY),
            types: PhantomData,
        }
    }
}

impl<T, P, O, W> Failover<T, P, O, W> {
    /// Only for these errors, in place of all but the fatal ones.
    pub fn when<N>(self, when: N) -> Failover<T, P, O, N>
    where
        N: Fn(&TaskError) -> bool + Send + Sync + 'static,
    {
        Failover {
            to: self.to,
            when,
            after_attempts: self.after_attempts,
            after_failing_for: self.after_failing_for,
            place: self.place,
            warnings: self.warnings,
            types: PhantomData,
        }
    }

    /// Only for errors that name this place: see [`TaskError::at`].
    pub fn at(mut self, place: impl Into<Cow<'static, str>>) -> Self {
        self.place = Some(place.into());
        self
    }

    /// Only when this many attempts have failed, this one included: not before
    /// [`Task::attempt`] is as high.
    ///
    /// **After a restart or a rebalance attempts in place count from 1 again.** Where records
    /// should not wait for that, use [`after_failing_for`](Self::after_failing_for) with a retry
    /// topic, or decide by the age of the record ([`Task::timestamp`]) in a layer of your own.
    pub fn after(mut self, attempts: u32) -> Self {
        self.after_attempts = attempts;
        self
    }

    /// Only when the record has failed for this long: see [`Task::failing_for`]. A first attempt
    /// does not fail over then.
    ///
    /// The time goes on while the record waits, in an outage too. A restart or a rebalance forgets
    /// failures in place, as it forgets attempts; those before the last round through the retry
    /// topic stay known.
    pub fn after_failing_for(mut self, time: Duration) -> Self {
        self.after_failing_for = time;
        self
    }

    /// Whether an error of this attempt may fail over at all.
    fn may_apply(&self, task: &Task<T>) -> bool {
        let failing_for = task.failing_for().unwrap_or_default();
        task.attempt() >= self.after_attempts && failing_for >= self.after_failing_for
    }
}

impl<T, P, O, W> Failover<T, P, O, W>
where
    W: Fn(&TaskError) -> bool,
{
    fn applies(&self, error: &TaskError) -> bool {
        let is_there = |place: &Cow<'static, str>| error.place() == Some(place);
        self.place.as_ref().is_none_or(is_there) && (self.when)(error)
    }

    fn report(&self, task: &Task<T>, error: &TaskError) {
        let (topic, partition, offset) = (task.topic(), task.partition(), task.offset());
        if let Some(left_out) = self.warnings.due(clock::now()) {
            let error = error.chain();
            tracing::warn!(
                topic,
                partition,
                offset,
                error,
                left_out,
                "attempt fails over"
            );
        } else {
            tracing::debug!(topic, partition, offset, error = %error, "attempt fails over");
        }
    }
}

impl<T, P, O, W> Layer<T> for Failover<T, P, O, W>
where
    T: Clone + Send + 'static,
    O: Into<Success> + 'static,
    P: Processor<T, O>,
    W: Fn(&TaskError) -> bool + Send + Sync + 'static,
{
    fn around(
        &self,
        task: Task<T>,
        next: impl Next<T>,
    ) -> impl Future<Output = Result<Success, TaskError>> + Send {
        let mut spare = self.may_apply(&task).then(|| task.clone());
        let first = next.run(task);
        async move {
            let error = match first.await {
                Ok(success) => return Ok(success),
                Err(error) => error,
            };
            let Some(task) = spare.take().filter(|_| self.applies(&error)) else {
                return Err(error);
            };
            self.report(&task, &error);
            let answer = self.to.process(task).await;
            answer.map(Into::into).map_err(|last| last.after(&error))
        }
    }
}

impl<T, P, O, W> std::fmt::Debug for Failover<T, P, O, W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Failover")
            .field("after_attempts", &self.after_attempts)
            .field("after_failing_for", &self.after_failing_for)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::processing::{TaskErrorKind, processor_fn};
    use crate::testing::TestTask;

    /// A payload that counts its clones.
    #[derive(Debug, Default)]
    struct Counted(Arc<AtomicU32>);

    impl Clone for Counted {
        fn clone(&self) -> Self {
            self.0.fetch_add(1, Ordering::Relaxed);
            Self(self.0.clone())
        }
    }

    fn away() -> TaskError {
        TaskError::unavailable("connection refused").at("push gateway")
    }

    /// How many clones an attempt makes, and whether its failure fails over.
    async fn fails_over<W>(
        failover: impl FnOnce(
            Failover<Counted, fn(Task<Counted>) -> Done>,
        ) -> Failover<Counted, fn(Task<Counted>) -> Done, (), W>,
        task: impl FnOnce(TestTask<Counted>) -> TestTask<Counted>,
        error: fn() -> TaskError,
    ) -> (u32, bool)
    where
        W: Fn(&TaskError) -> bool + Send + Sync + 'static,
    {
        let other: fn(Task<Counted>) -> Done = |_| std::future::ready(Ok(()));
        let first = processor_fn(move |_: Task<Counted>| {
            let error = error();
            async move { Err::<(), _>(error) }
        });
        let processor = first.layered(failover(Failover::to(other)));
        let payload = Counted::default();
        let clones = payload.0.clone();
        let answer = processor
            .process(task(TestTask::new(payload)).build())
            .await;
        (clones.load(Ordering::Relaxed), answer.is_ok())
    }

    type Done = std::future::Ready<Result<(), TaskError>>;

    #[tokio::test]
    async fn every_condition_has_to_hold_and_a_task_is_cloned_only_if_it_may_fail_over() {
        let any = |task| task;
        assert_eq!(fails_over(|it| it, any, away).await, (1, true));
        assert_eq!(
            fails_over(|it| it, any, || TaskError::fatal("refused")).await,
            (1, false)
        );
        let unavailable = |it: Failover<_, _>| it.when(TaskError::is_unavailable);
        assert_eq!(fails_over(unavailable, any, away).await, (1, true));
        assert_eq!(
            fails_over(unavailable, any, || "status 500".into()).await,
            (1, false)
        );
        for (place, expected) in [("push gateway", true), ("sms gateway", false)] {
            assert_eq!(
                fails_over(|it| it.at(place), any, away).await,
                (1, expected)
            );
        }
        assert_eq!(
            fails_over(|it| it.at("push gateway"), any, || "down".into()).await,
            (1, false)
        );

        let third = |it: Failover<_, _>| it.after(3);
        assert_eq!(
            fails_over(third, |it| it.attempt(2), away).await,
            (0, false)
        );
        assert_eq!(fails_over(third, |it| it.attempt(3), away).await, (1, true));
        let minute = Duration::from_secs(60);
        let late = |it: Failover<_, _>| it.after_failing_for(minute);
        assert_eq!(fails_over(late, |it| it.attempt(9), away).await, (0, false));
        let failing = |it: TestTask<_>| it.failing_for(minute);
        assert_eq!(fails_over(late, failing, away).await, (1, true));
        let both = |it: Failover<_, _>| it.after_failing_for(minute).after(2);
        assert_eq!(fails_over(both, failing, away).await, (0, false));
    }

    #[tokio::test]
    async fn the_error_of_the_fail_over_decides_and_shows_the_first_one() {
        let push = processor_fn(async |_: Task<()>| Err::<(), _>(away()));
        let sms = processor_fn(async |_: Task<()>| {
            let error = std::io::Error::other("no such number");
            Err::<(), _>(TaskError::fatal(error).at("sms gateway"))
        });
        let error = push
            .layered(Failover::to(sms))
            .process(TestTask::new(()).build())
            .await
            .unwrap_err();
        assert_eq!(
            (error.kind(), error.place(), error.class()),
            (
                TaskErrorKind::Fatal,
                Some("sms gateway"),
                "std::io::error::Error"
            )
        );
        assert_eq!(
            error.chain(),
            "connection refused; then the fail-over failed: no such number"
        );
    }

    #[tokio::test]
    async fn a_success_and_a_skip_do_not_fail_over() {
        for success in [Success::Done, Success::skipped("nothing to say")] {
            let first = success.clone();
            let push = processor_fn(move |_: Task<()>| {
                let first = first.clone();
                async move { Ok(first) }
            });
            let sms = processor_fn(async |_: Task<()>| -> Result<(), TaskError> {
                panic!("nothing has failed")
            });
            let notify = push.layered(Failover::to(sms));
            let answer = notify.process(TestTask::new(()).build()).await;
            assert_eq!(answer.unwrap(), success);
        }
    }
}
