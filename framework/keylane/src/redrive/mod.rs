//! Dead letters that are written back: which copy is made of a letter, and where it goes.
//!
//! ```
//! use keylane::{NewTask, Task, TaskError, TaskProducer};
//!
//! /// The processor of a subscription to the dead-letter topic.
//! async fn write_back(task: Task<bytes::Bytes>, producer: &TaskProducer) -> Result<(), TaskError> {
//!     let copy = NewTask::from_dead_letter(&task).map_err(TaskError::fatal)?;
//!     producer.enqueue(copy).await?;
//!     Ok(())
//! }
//! # let _ = write_back;
//! ```
//!
//! # What a copy has
//! Key, value and headers are those of the record before it was given up. Rounds, attempts, the
//! first failure and Decaton's retry count begin again. A copy to a retry topic names the group that
//! it is for, and the record's origin. `keylane-redrive-count` is one more than the letter's, and
//! `keylane-redrive-id` names the letter: `<task>/<topic>/<partition>/<offset>`. Retries and dead
//! letters keep both, so that a record that fails again and again is refused after its third redrive.
//!
//! # Delivery
//! At least once: a letter that is read again is copied again, and both copies have one
//! `keylane-redrive-id`. The letter stays where it is.

mod copy;
mod error;

pub use copy::Redrive;
pub use error::RedriveError;
