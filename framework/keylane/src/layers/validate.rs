//! Payloads that are refused.

use std::error::Error;
use std::future::Future;

use futures::future::{Either, ready};

use super::{Layer, Next};
use crate::{Success, Task, TaskError};

/// Refuses a payload before what is inside has it: what decodes, and still cannot be right.
///
/// A refused one is [fatal](TaskError::fatal): a dead letter at once, because no retry will mend it.
/// Many fatal records with no success between them are taken for a bad deployment, and wait: see
/// [`Outage`](crate::config::Outage).
///
/// # Examples
/// ```
/// use keylane::layers::Validate;
/// use keylane::processing::processor_fn;
/// use keylane::testing::TestTask;
/// use keylane::{Processor, Task};
///
/// struct ParkingEvent { vehicle: String }
///
/// fn names_a_vehicle(event: &ParkingEvent) -> Result<(), String> {
///     match event.vehicle.len() {
///         1..=12 => Ok(()),
///         length => Err(format!("a vehicle's name has 1 to 12 characters, not {length}")),
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let notify = processor_fn(async |_: Task<ParkingEvent>| Ok(()));
/// let notify = notify.layered(Validate::with(names_a_vehicle));
/// let task = TestTask::new(ParkingEvent { vehicle: String::new() }).build();
/// assert!(notify.process(task).await.unwrap_err().is_fatal());
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Validate<F> {
    check: F,
    refused: Refused,
}

#[derive(Clone, Copy, Debug)]
enum Refused {
    Fatal,
    Skipped,
}

impl<F> Validate<F> {
    /// Refuses what this returns an error for. It runs on every attempt, so it is quick and does
    /// not wait.
    pub fn with<T, E>(check: F) -> Self
    where
        F: Fn(&T) -> Result<(), E> + Send + Sync + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let refused = Refused::Fatal;
        Self { check, refused }
    }

    /// A refused record is settled as *skipped*, and counted: for what is of no concern to this
    /// group. It is no dead letter then, and the error's text is at debug level in the log alone.
    #[must_use]
    pub fn or_skip(mut self) -> Self {
        self.refused = Refused::Skipped;
        self
    }
}

impl<T, E, F> Layer<T> for Validate<F>
where
    T: Send + 'static,
    F: Fn(&T) -> Result<(), E> + Send + Sync + 'static,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    fn around(
        &self,
        task: Task<T>,
        next: impl Next<T>,
    ) -> impl Future<Output = Result<Success, TaskError>> + Send {
        match ((self.check)(task.payload()), self.refused) {
            (Ok(()), _) => Either::Left(next.run(task)),
            (Err(error), Refused::Fatal) => Either::Right(ready(Err(TaskError::fatal(error)))),
            (Err(error), Refused::Skipped) => {
                let reason = TaskError::fatal(error).chain();
                Either::Right(ready(Ok(Success::skipped(reason))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Processor;
    use crate::processing::processor_fn;
    use crate::testing::TestTask;

    #[derive(Debug, thiserror::Error)]
    #[error("{0} is odd")]
    struct Odd(u32);

    fn is_even(number: &u32) -> Result<(), Odd> {
        match number % 2 {
            0 => Ok(()),
            _ => Err(Odd(*number)),
        }
    }

    #[tokio::test]
    async fn a_refused_payload_is_fatal_of_the_errors_class_and_does_not_reach_the_processor() {
        let passed = processor_fn(async |task: Task<u32>| -> Result<(), TaskError> {
            assert_eq!(task.payload() % 2, 0);
            Err("the processor's".into())
        });
        let processor = passed.layered(Validate::with(is_even));
        let error = |number| {
            let answer = processor.process(TestTask::new(number).build());
            async { answer.await.unwrap_err() }
        };
        let refused = error(7).await;
        assert!(refused.is_fatal());
        assert_eq!(refused.to_string(), "7 is odd");
        assert!(refused.class().ends_with("Odd"), "{}", refused.class());
        assert_eq!(error(8).await.to_string(), "the processor's");
    }

    #[tokio::test]
    async fn or_is_skipped_with_the_reason() {
        let processor = processor_fn(async |_: Task<u32>| Ok(()));
        let processor = processor.layered(Validate::with(is_even).or_skip());
        for (number, expected) in [(8, Success::Done), (7, Success::skipped("7 is odd"))] {
            let answer = processor.process(TestTask::new(number).build()).await;
            assert_eq!(answer.unwrap(), expected);
        }
    }
}
