//! What a user's code gets and gives: a task, the processor that does its work, the decoder of its
//! payload, and the errors.

mod cancellation;
mod decode;
mod epoch;
mod processor;
mod task;
mod task_error;

pub use cancellation::Cancellation;
pub use decode::{Decode, Json, Raw};
pub use processor::Processor;
pub use task::Task;
pub use task_error::{TaskError, TaskErrorKind};

pub(crate) use epoch::{EpochGuard, EpochLife};
pub(crate) use task::Source;
pub(crate) use task_error::Cause;
