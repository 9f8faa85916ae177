//! Layers: what stands around a processor.

use std::future::Future;
use std::marker::PhantomData;

use futures::TryFutureExt;

use super::{Processor, Success, Task, TaskError};

/// Stands around a processor, and around the layers further in: for what every attempt needs
/// besides the work itself.
///
/// A layer gets the task before the processor does, and the answer before keylane does. It may
/// - pass the task on with [`Next::run`], and the answer back as it is;
/// - change either, or do something before and after;
/// - answer by itself, so that the processor is not called.
///
/// It passes the task on **at most once**: `run` consumes `next`. To try something else after a
/// failure it calls that itself, as [`Failover`](crate::layers::Failover) does.
///
/// # What holds for a layer
/// It is a part of the attempt. The attempt time-out holds for all layers together. Its future is
/// dropped with the attempt ([cancellation](Processor#cancellation)). An error is classified like
/// the processor's, whichever of the two made it, and a panic is a retryable failure of this record
/// alone. Records of one key run one after the other through all layers: order is what it is
/// without them.
///
/// # Cost
/// Layers are put together by their types: no box, no allocation and no dynamic call of keylane's.
///
/// # Examples
/// A layer for any payload, which says where an error comes from:
/// ```
/// use keylane::layers::{Layer, Next};
/// use keylane::{Processor, Success, Task, TaskError};
///
/// struct At(&'static str);
///
/// impl<T: Send + 'static> Layer<T> for At {
///     async fn around(&self, task: Task<T>, next: impl Next<T>) -> Result<Success, TaskError> {
///         next.run(task).await.map_err(|error| error.at(self.0))
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let push = async |_: Task<String>| Err::<(), _>(TaskError::unavailable("connection refused"));
/// let push = keylane::processing::processor_fn(push).layered(At("push gateway"));
/// let task = keylane::testing::TestTask::new("in".to_owned()).build();
/// assert_eq!(push.process(task).await.unwrap_err().place(), Some("push gateway"));
/// # }
/// ```
///
/// One that looks into the payload names its type: `impl Layer<ParkingEvent> for OnlyKnownGates`.
///
/// `next` is for one call:
/// ```compile_fail,E0382
/// # use keylane::layers::{Layer, Next};
/// # use keylane::{Success, Task, TaskError};
/// struct Twice;
///
/// impl Layer<String> for Twice {
///     async fn around(&self, task: Task<String>, next: impl Next<String>) -> Result<Success, TaskError> {
///         if let Ok(success) = next.run(task.clone()).await {
///             return Ok(success);
///         }
///         next.run(task).await
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no layer around a processor of `{T}`",
    label = "this cannot stand around a processor of `{T}`",
    note = "a struct needs `impl Layer<{T}>`, or `impl<T: Send + 'static> Layer<T>` for any payload, where `{T}` is what \
            the decoder returns",
    note = "a processor is no layer: give it to `start`, or to a layer such as `keylane::layers::Failover::to`"
)]
pub trait Layer<T>: Send + Sync + 'static {
    /// Runs the part of the attempt that is further in, and what the layer adds.
    ///
    /// # Errors
    /// As those of [`Processor::process`].
    fn around(
        &self,
        task: Task<T>,
        next: impl Next<T>,
    ) -> impl Future<Output = Result<Success, TaskError>> + Send;
}

/// The rest of the attempt: the layers further in, and the processor. For one call.
///
/// Dropped without a call, the processor has not run.
pub trait Next<T>: Send + sealed::Sealed {
    /// Runs it with this task: the one that the layer got, or a changed one.
    ///
    /// # Errors
    /// What the processor or a layer further in fails with.
    fn run(self, task: Task<T>) -> impl Future<Output = Result<Success, TaskError>> + Send;
}

/// A processor with a layer around it; a processor again. Made by [`Processor::layered`].
#[derive(Clone, Copy)]
pub struct Layered<L, P, O = ()> {
    layer: L,
    processor: P,
    answer: PhantomData<fn() -> O>,
}

impl<L, P, O> Layered<L, P, O> {
    pub(crate) fn new(layer: L, processor: P) -> Self {
        Self {
            layer,
            processor,
            answer: PhantomData,
        }
    }
}

/// Layers and processors need not be shown.
impl<L, P, O> std::fmt::Debug for Layered<L, P, O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Layered").finish_non_exhaustive()
    }
}

impl<T, O, L, P> Processor<T, Success> for Layered<L, P, O>
where
    T: Send + 'static,
    O: Into<Success> + 'static,
    L: Layer<T>,
    P: Processor<T, O>,
{
    fn process(&self, task: Task<T>) -> impl Future<Output = Result<Success, TaskError>> + Send {
        let next = Inner {
            processor: &self.processor,
            answer: PhantomData,
        };
        self.layer.around(task, next)
    }
}

struct Inner<'a, P, O> {
    processor: &'a P,
    answer: PhantomData<fn() -> O>,
}

impl<T, O, P> Next<T> for Inner<'_, P, O>
where
    O: Into<Success> + 'static,
    P: Processor<T, O>,
{
    fn run(self, task: Task<T>) -> impl Future<Output = Result<Success, TaskError>> + Send {
        // No `async` block, which would have room for the processor's future twice.
        self.processor.process(task).map_ok(Into::into)
    }
}

/// The layers that a subscription was given one by one, before its processor is there.
///
/// Implemented for what [`SubscriptionBuilder::layer`](crate::subscription::SubscriptionBuilder::layer)
/// makes. `()` is no layers: the processor stays what it is.
pub trait Layers<T>: sealed::Sealed {
    /// Puts them around the processor, and gives that away.
    ///
    /// Not an associated type for what comes out: where a processor does not fit, the compiler would
    /// complain about that type as well.
    #[doc(hidden)]
    fn around<O, P, U>(self, processor: P, user: U) -> U::Output
    where
        O: Into<Success> + 'static,
        P: Processor<T, O>,
        U: UsesProcessor<T>;
}

/// What takes a processor of whatever type.
#[doc(hidden)]
pub trait UsesProcessor<T> {
    /// What it makes of it.
    type Output;

    /// Takes it.
    fn take<O, P>(self, processor: P) -> Self::Output
    where
        O: Into<Success> + 'static,
        P: Processor<T, O>;
}

/// Layers `Outer` around the layer `L`: what `.layer(..)` adds is further in than what is there.
#[derive(Clone, Copy)]
pub struct Stack<Outer, L> {
    outer: Outer,
    layer: L,
}

impl<Outer, L> Stack<Outer, L> {
    /// Puts a layer inside of those that are there.
    pub fn new(outer: Outer, layer: L) -> Self {
        Self { outer, layer }
    }
}

impl<Outer, L> std::fmt::Debug for Stack<Outer, L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stack").finish_non_exhaustive()
    }
}

impl<T> Layers<T> for () {
    fn around<O, P, U>(self, processor: P, user: U) -> U::Output
    where
        O: Into<Success> + 'static,
        P: Processor<T, O>,
        U: UsesProcessor<T>,
    {
        user.take(processor)
    }
}

impl<T, Outer, L> Layers<T> for Stack<Outer, L>
where
    T: Send + 'static,
    L: Layer<T>,
    Outer: Layers<T>,
{
    fn around<O, P, U>(self, processor: P, user: U) -> U::Output
    where
        O: Into<Success> + 'static,
        P: Processor<T, O>,
        U: UsesProcessor<T>,
    {
        self.outer
            .around(Layered::<L, P, O>::new(self.layer, processor), user)
    }
}

mod sealed {
    pub trait Sealed {}

    impl<P, O> Sealed for super::Inner<'_, P, O> {}
    impl Sealed for () {}
    impl<Outer, L> Sealed for super::Stack<Outer, L> {}
}
