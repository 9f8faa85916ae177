//! How a processor settles a record.

use std::borrow::Cow;

/// What a processor returns in its `Ok`: the record is settled, and goes nowhere else.
///
/// Most processors return `Ok(())`, which is [`Done`](Self::Done). One that also leaves records out
/// implements `Processor<T, Success>`; a function or closure just returns it.
///
/// # Examples
/// ```
/// use keylane::testing::TestTask;
/// use keylane::{Processor, Success, Task, TaskError};
///
/// struct Notify;
///
/// impl Processor<String, Success> for Notify {
///     async fn process(&self, task: Task<String>) -> Result<Success, TaskError> {
///         if task.payload().is_empty() {
///             return Ok(Success::skipped("nothing to say"));
///         }
///         println!("{}", task.payload());
///         Ok(Success::Done)
///     }
/// }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let empty = TestTask::new(String::new()).build();
/// assert_eq!(Notify.process(empty).await.unwrap(), Success::skipped("nothing to say"));
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Success {
    /// The work is done.
    #[default]
    Done,
    /// There was nothing to do. The record is settled as *skipped*, and counted.
    Skipped {
        /// Why, for the log. A text beyond 4 KiB is cut there.
        reason: Cow<'static, str>,
    },
}

impl Success {
    /// There was nothing to do for this record.
    pub fn skipped(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Skipped {
            reason: reason.into(),
        }
    }
}

/// [`Done`](Self::Done).
impl From<()> for Success {
    fn from((): ()) -> Self {
        Self::Done
    }
}
