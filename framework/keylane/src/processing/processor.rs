//! The one trait a user implements.

use std::future::Future;
use std::sync::Arc;

use super::layer::{Layer, Layered};
use super::{Success, Task, TaskError};

/// Does the work for one task: calls the database, the HTTP API, the push gateway.
///
/// One processor serves all partitions of a [subscription](crate::Subscription). It is called from
/// many tasks at once, but never for two records of one key (and partition) at the same time.
/// Records of one key come in offset order.
///
/// Returning `Ok(())` settles the record as *done*. A processor that also leaves records out
/// implements `Processor<T, Success>` and returns a [`Success`]. An error goes to the [retry
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
///     Ok(())
/// };
/// # fn is_processor<P: Processor<String>>(_: P) {}
/// # is_processor(Greeter { greeting: "hello".into() });
/// # is_processor(closure);
/// ```
///
/// One that is used elsewhere too is shared as `Arc<Greeter>`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no processor of `{T}`",
    label = "this cannot process a `Task<{T}>`",
    note = "a struct, or an `Arc` of it, needs `impl Processor<{T}>`, where `{T}` is what the decoder returns",
    note = "a function or closure takes a `Task<{T}>`, and returns a `Send` future of `Result<(), TaskError>` or \
            `Result<Success, TaskError>`; with `keylane::processing::processor_fn(..)` around it the compiler says \
            what is missing"
)]
pub trait Processor<T, O = ()>: Send + Sync + 'static
where
    O: Into<Success>,
{
    /// Makes one attempt at one task.
    ///
    /// # Errors
    /// Any error converts into a retryable [`TaskError`] with `?`; its constructors choose another
    /// fate.
    fn process(&self, task: Task<T>) -> impl Future<Output = Result<O, TaskError>> + Send;

    /// This processor with a [layer](crate::layers) around it, which is a processor again. Each
    /// further call puts its layer around all that is there, so the last one is the outermost:
    /// `p.layered(B).layered(A)` is what `.layer(A).layer(B)` of a
    /// [builder](crate::subscription::SubscriptionBuilder::layer) makes.
    ///
    /// # Examples
    /// ```
    /// use keylane::layers::Validate;
    /// use keylane::processing::{TaskErrorKind, processor_fn};
    /// use keylane::testing::TestTask;
    /// use keylane::{Processor, Task};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let notify = processor_fn(async |task: Task<String>| {
    ///     println!("{}", task.payload());
    ///     Ok(())
    /// });
    /// let notify = notify.layered(Validate::with(|text: &String| match text.len() {
    ///     0 => Err("an empty text"),
    ///     _ => Ok(()),
    /// }));
    /// let error = notify.process(TestTask::new(String::new()).build()).await.unwrap_err();
    /// assert_eq!(error.kind(), TaskErrorKind::Fatal);
    /// # }
    /// ```
    fn layered<L>(self, layer: L) -> Layered<L, Self, O>
    where
        Self: Sized,
        L: Layer<T>,
    {
        Layered::new(layer, self)
    }
}

// Without it the compiler would say of every struct that it is no closure.
#[diagnostic::do_not_recommend]
impl<T, O, F, Fut> Processor<T, O> for F
where
    O: Into<Success>,
    F: Fn(Task<T>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<O, TaskError>> + Send,
{
    fn process(&self, task: Task<T>) -> impl Future<Output = Result<O, TaskError>> + Send {
        self(task)
    }
}

impl<T, O: Into<Success>, P: Processor<T, O>> Processor<T, O> for Arc<P> {
    fn process(&self, task: Task<T>) -> impl Future<Output = Result<O, TaskError>> + Send {
        P::process(self, task)
    }
}

/// The function or closure itself, checked to be a [`Processor`].
///
/// It changes nothing. Where a closure is refused as a processor, the compiler names the part that
/// does not fit: an error of another type, a future that is not `Send`.
///
/// # Examples
/// ```
/// use keylane::Task;
/// use keylane::processing::processor_fn;
///
/// let notify = processor_fn(async |task: Task<String>| {
///     println!("{}", task.payload());
///     Ok(())
/// });
/// # fn is_processor<P: keylane::Processor<String>>(_: P) {}
/// # is_processor(notify);
/// ```
///
/// A [`TaskError`] is what a processor fails with; others convert by `?`:
/// ```compile_fail,E0271
/// # use keylane::Task;
/// # use keylane::processing::processor_fn;
/// processor_fn(async |task: Task<String>| task.payload().parse::<u32>().map(drop));
/// ```
pub fn processor_fn<T, O, F, Fut>(function: F) -> F
where
    O: Into<Success>,
    F: Fn(Task<T>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<O, TaskError>> + Send,
{
    function
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestTask;

    struct Length;

    impl Processor<String, Success> for Length {
        async fn process(&self, task: Task<String>) -> Result<Success, TaskError> {
            match task.payload().len() {
                0 => Ok(Success::skipped("empty")),
                1 => Err("too short")?,
                _ => Ok(Success::Done),
            }
        }
    }

    #[tokio::test]
    async fn a_shared_processor_is_one() {
        async fn run(processor: impl Processor<String, Success>, payload: &str) -> String {
            let task = TestTask::new(payload.to_owned()).build();
            match processor.process(task).await {
                Ok(success) => format!("{success:?}"),
                Err(error) => error.to_string(),
            }
        }
        let shared = Arc::new(Length);
        assert_eq!(run(shared.clone(), "long").await, "Done");
        assert_eq!(run(shared.clone(), "1").await, "too short");
        assert!(run(Arc::new(shared), "").await.contains("empty"));
    }
}
