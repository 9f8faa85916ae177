//! The interface to the user's code: a task, its processor, the decoder of its payload, and the
//! errors.

mod cancellation;
pub(crate) mod decode;
mod epoch;
mod identity;
pub(crate) mod layer;
pub(crate) mod processor;
pub(crate) mod success;
pub(crate) mod task;
pub(crate) mod task_error;

pub use cancellation::Cancellation;
#[doc(hidden)]
pub use identity::{FirstFailure, TaskIdentity};
pub(crate) use processor::Processor;
pub use processor::processor_fn;
pub(crate) use success::Success;
pub(crate) use task::Task;
pub(crate) use task_error::TaskError;
pub use task_error::TaskErrorKind;

pub(crate) use epoch::{EpochGuard, EpochLife};
pub(crate) use task::Source;
pub(crate) use task_error::Cause;
