//! The one trait a user implements.

use std::future::Future;

use super::{Task, TaskError};

/// Does the work for one task: calls the database, the HTTP API, the push gateway.
///
/// One processor serves all partitions of a [subscription](crate::Subscription). It is called from
/// many tasks at once, but never for two records of one key (and partition) at the same time.
/// Records of one key come in offset order.
///
/// Returning `Ok(())` settles the record as *done*. An error goes to the [retry
/// policy](crate::Retry); see [`TaskError`]. A panic counts as a retryable failure of this record
/// and nothing else.
///
/// The work must not block its thread: it runs on the tokio runtime. Work that computes for more
/// than some microseconds is spread over all cores, work that blocks belongs into
/// `tokio::task::spawn_blocking`.
///
/// # Cancellation
/// The future is dropped when the attempt time-out passes, or when the partition must be given up
/// and the drain time-out has passed. Such a record is not settled: it is attempted again, here or
/// by the next owner.
///
/// What the future has started elsewhere, on a blocking thread or as a task of its own, is not
/// dropped with it. Give it the task's [`cancellation`](Task::cancellation).
///
/// # Examples
/// A struct for a processor with state, a closure for one without:
///
/// ```
/// use keylane::{Processor, Task, TaskError};
///
/// struct Greeter { greeting: String }
///
/// impl Processor<String> for Greeter {
///     async fn process(&self, task: Task<String>) -> Result<(), TaskError> {
///         println!("{} {}", self.greeting, task.payload());
///         Ok(())
///     }
/// }
///
/// let closure = |task: Task<String>| async move {
///     println!("{}", task.payload());
///     Ok::<(), TaskError>(())
/// };
/// # fn is_processor<P: Processor<String>>(_: P) {}
/// # is_processor(Greeter { greeting: "hello".into() });
/// # is_processor(closure);
/// ```
pub trait Processor<T>: Send + Sync + 'static {
    /// Makes one attempt at one task.
    ///
    /// # Errors
    /// Any error converts into a retryable [`TaskError`] with `?`; its constructors choose another
    /// fate.
    fn process(&self, task: Task<T>) -> impl Future<Output = Result<(), TaskError>> + Send;
}

impl<T, F, Fut> Processor<T> for F
where
    F: Fn(Task<T>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), TaskError>> + Send,
{
    fn process(&self, task: Task<T>) -> impl Future<Output = Result<(), TaskError>> + Send {
        self(task)
    }
}
