//! Dead letters that are written back: which copy is made of a letter, and where it goes.
//!
//! ```
//! use keylane::{NewTask, Task, TaskError, TaskProducer};
//!
//! /// The processor of a subscription to the dead-letter topic.
//! async fn write_back(task: Task<bytes::Bytes>, producer: &TaskProducer) -> Result<(), TaskError> {
//!     match NewTask::from_dead_letter(&task) {
//!         Ok(copy) => drop(producer.enqueue(copy).await?),
//!         // An error would hold up the letters behind it. The letter stays where it is.
//!         Err(refused) => eprintln!("not written back: {refused}"),
//!     }
//!     Ok(())
//! }
//! # let _ = write_back;
//! ```
//!
//! Without a subscription, [`Letters`] reads the topic from its beginning to its end as it is now:
//!
//! ```no_run
//! use keylane::TaskProducer;
//! use keylane::dead_letter::Filter;
//! use keylane::redrive::{Letters, Redrive};
//!
//! # async fn redrive(producer: &TaskProducer) -> Result<(), Box<dyn std::error::Error>> {
//! let filter = Filter::parse(["reason=exhausted", "error~time.?out"])?;
//! let redrive = Redrive::named("after-the-outage")?;
//! let mut letters = Letters::of("parking-events-dlq").bootstrap_servers("localhost:9092").read().await?;
//! while let Some(letter) = letters.next().await {
//!     let letter = letter?;
//!     if !filter.matches(&letter) {
//!         continue;
//!     }
//!     match redrive.copy(&letter) {
//!         Ok(copy) => drop(producer.enqueue(copy).await?),
//!         Err(refused) => eprintln!("not written back: {refused}"),
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! [`RedriveTask`] does all that as one task: it keeps the order of each key, can be resumed after a
//! crash without a copy that is there twice, and is recorded in the group's [operations topic](ops).
//!
//! # What a copy has
//! Key, value and headers are those of the record before it was given up. Rounds, attempts, the
//! first failure and Decaton's retry count begin again, and so do Spring's retries: no header
//! `retry_topic-*` is copied. A copy to a retry topic names the group that
//! it is for, and the record's origin. `keylane-redrive-count` is one more than the letter's, and
//! `keylane-redrive-id` names the letter: `<task>/<topic>/<partition>/<offset>`. Retries and dead
//! letters keep both, so that a record that fails again and again is refused after its third redrive.
//! A record that has a header with an empty name cannot be copied ([`RedriveError::HeaderName`]).
//!
//! # Delivery
//! Of [`Redrive`]: at least once. A letter that is read again is copied again, and both copies have one
//! `keylane-redrive-id`. Of [`RedriveTask`]: once, for readers with `read_committed`. The letter stays
//! where it is.

pub(crate) mod connection;
mod copy;
mod edit;
mod error;
mod letters;
pub mod ops;
mod request;
mod task;
mod task_error;

pub use crate::kafka::LetterRange;
pub use copy::Redrive;
pub use edit::{Edit, MergePatch};
pub use error::RedriveError;
pub use keylane_core::redrive::Canary;
pub use letters::{Letters, LettersBuilder, LettersError};
pub use request::RedriveRequest;
pub use task::{Ended, PlanRefusal, Planned, RedriveProgress, RedriveTask, Refusals};
pub use task_error::RedriveTaskError;
