//! A time-out around a part of the attempt.

use std::borrow::Cow;
use std::future::Future;
use std::time::Duration;

use super::{Layer, Next};
use crate::support::clock;
use crate::{Success, Task, TaskError};

/// Ends what is inside after a time, with an error.
///
/// `attempt_timeout` ends the whole attempt, layers included. This one ends the inner part of it,
/// so that a layer outside can act: a [`Failover`](super::Failover), most of all. It has to be the
/// shorter one of the two.
///
/// The error is retried by the policy, with the reason `timeout`, as that of the attempt's own
/// time-out. The future inside is dropped, and the [`Cancellation`](crate::processing::Cancellation)
/// that it got from its task is cancelled by then.
///
/// **What did not answer in time may have happened.**
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// use keylane::layers::Timeout;
/// use keylane::testing::TestTask;
/// use keylane::{Processor, Task, TaskError};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let hangs = |_: Task<u32>| std::future::pending::<Result<(), TaskError>>();
/// let push = hangs.layered(Timeout::of(Duration::from_millis(20)).at("push gateway"));
/// let error = push.process(TestTask::new(7).build()).await.unwrap_err();
/// assert!(error.is_timeout());
/// assert_eq!(error.place(), Some("push gateway"));
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Timeout {
    time: Duration,
    place: Option<Cow<'static, str>>,
    is_unavailable: bool,
}

impl Timeout {
    /// After this time.
    pub fn of(time: Duration) -> Self {
        Self {
            time,
            place: None,
            is_unavailable: false,
        }
    }

    /// Names the place that did not answer, as [`TaskError::at`] does: with that, several keys whose
    /// attempts time out are an outage of this place, also while others succeed.
    #[must_use]
    pub fn at(mut self, place: impl Into<Cow<'static, str>>) -> Self {
        self.place = Some(place.into());
        self
    }

    /// Takes what does not answer for [away](TaskError::unavailable): the record is not at fault,
    /// waits in place, and burns no retries. **A record that never ends in time then holds its key
    /// for ever.** Default: it is retried by the policy.
    #[must_use]
    pub fn unavailable(mut self) -> Self {
        self.is_unavailable = true;
        self
    }

    fn error(&self) -> TaskError {
        let text = format!("no answer within {:?}", self.time);
        let error = match self.is_unavailable {
            true => TaskError::unavailable(text),
            false => TaskError::retryable(text),
        };
        let error = error.timed_out();
        match &self.place {
            Some(place) => error.at(place.clone()),
            None => error,
        }
    }
}

impl<T: Send + 'static> Layer<T> for Timeout {
    fn around(
        &self,
        mut task: Task<T>,
        next: impl Next<T>,
    ) -> impl Future<Output = Result<Success, TaskError>> + Send {
        task.end_by(clock::now() + self.time);
        let inner = tokio::time::timeout(self.time, next.run(task));
        async move { inner.await.unwrap_or_else(|_| Err(self.error())) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::layers::Failover;
    use crate::processing::{Cancellation, TaskErrorKind, processor_fn};
    use crate::testing::TestTask;
    use crate::{Processor, Task};

    const SECOND: Duration = Duration::from_secs(1);
    /// Of what ends by nothing but its time-out.
    const SHORT: Duration = Duration::from_millis(5);

    fn hangs(_: Task<u32>) -> std::future::Pending<Result<(), TaskError>> {
        std::future::pending()
    }

    #[tokio::test]
    async fn what_takes_too_long_is_a_time_out_retryable_unless_it_is_taken_for_away() {
        let error = |timeout: Timeout| async move {
            let task = TestTask::new(7).build();
            hangs.layered(timeout).process(task).await.unwrap_err()
        };
        let plain = error(Timeout::of(SHORT)).await;
        assert_eq!(
            (plain.kind(), plain.place()),
            (TaskErrorKind::Retryable, None)
        );
        assert_eq!(plain.to_string(), "no answer within 5ms");
        assert_eq!(plain.class(), "timeout");
        let away = error(Timeout::of(SHORT).at("push").unavailable()).await;
        assert_eq!(
            (away.kind(), away.place()),
            (TaskErrorKind::Unavailable, Some("push"))
        );
        assert!(plain.is_timeout() && away.is_timeout());

        let quick = processor_fn(async |_: Task<u32>| Err::<(), _>(TaskError::fatal("refused")));
        let quick = quick.layered(Timeout::of(60 * SECOND));
        let error = quick.process(TestTask::new(7).build()).await.unwrap_err();
        assert!(error.is_fatal() && !error.is_timeout());
    }

    #[tokio::test]
    async fn inside_of_a_fail_over_it_ends_the_first_and_outside_of_it_both() {
        let slow = || {
            processor_fn(async |_: Task<u32>| {
                tokio::time::sleep(2 * SHORT).await;
                Ok(())
            })
        };
        let inside = hangs
            .layered(Timeout::of(SHORT))
            .layered(Failover::to(slow()));
        assert!(inside.process(TestTask::new(7).build()).await.is_ok());

        let outside = hangs
            .layered(Failover::to(slow()))
            .layered(Timeout::of(SHORT));
        let error = outside.process(TestTask::new(7).build()).await.unwrap_err();
        assert!(error.is_timeout());
    }

    /// Work on a blocking thread is reached by its handle alone.
    #[tokio::test]
    async fn the_handle_of_what_is_inside_ends_with_it_and_the_attempt_goes_on() {
        let handles = Arc::<Mutex<Vec<Cancellation>>>::default();
        let keep = |then: Result<(), &'static str>| {
            let handles = handles.clone();
            processor_fn(move |task: Task<u32>| {
                handles.lock().unwrap().push(task.cancellation());
                async move { then.map_err(TaskError::retryable) }
            })
        };
        let both = keep(Err("down"))
            .layered(Timeout::of(SECOND))
            .layered(Failover::to(keep(Ok(()))));
        let (before, far) = (clock::now(), clock::now() + 60 * SECOND);
        let task = TestTask::new(7).ends_at(far).build();
        both.process(task).await.unwrap();
        let deadlines: Vec<_> = (handles.lock().unwrap().iter())
            .map(|handle| handle.deadline().unwrap())
            .collect();
        assert!(deadlines[0] >= before + SECOND && deadlines[0] < far);
        assert_eq!(deadlines[1], far);

        // It does not make the attempt longer.
        let longer = keep(Ok(())).layered(Timeout::of(120 * SECOND));
        let task = TestTask::new(7).ends_at(far).build();
        longer.process(task).await.unwrap();
        let last = handles.lock().unwrap().pop().unwrap();
        assert_eq!(last.deadline(), Some(far));
    }
}
