//! Tests of a processor with what surrounds it: retries, time-outs, key order, dead letters and
//! outages. No broker is needed, and a quarter of an hour of back-off takes some milliseconds.
//!
//! ```
//! use std::time::Duration;
//!
//! use keylane::{Json, NewTask, Retry, Task, TaskError};
//! use keylane_testkit::{Outcome, TestSubscription};
//!
//! # #[derive(serde::Serialize, serde::Deserialize)] struct ParkingEvent { vehicle: String }
//! async fn notify(task: Task<ParkingEvent>) -> Result<(), TaskError> {
//!     match task.payload().vehicle.as_str() {
//!         "" => Err(TaskError::fatal("an event without a vehicle")),
//!         _ => Err(TaskError::retryable("the push gateway is busy")),
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let event = |vehicle: &str| NewTask::json(&ParkingEvent { vehicle: vehicle.into() });
//! let outcome = TestSubscription::new(Json, notify).retry(Retry::in_place(2)).run(event("B-KL 42")?).await;
//! assert_eq!(outcome, Outcome::DeadLettered { attempts: 3 });
//!
//! let outcome = TestSubscription::new(Json, notify).run(event("")?).await;
//! assert_eq!(outcome, Outcome::DeadLettered { attempts: 1 });
//! # Ok(()) }
//! ```
//!
//! What decides is keylane itself: the same core, the same owner of a partition, the same code
//! around an attempt. Only Kafka is replaced, by lists in memory:
//! [what is not simulated](TestSubscription#what-is-not-simulated).
//!
//! For several tasks, and to look at attempts, retries and dead letters one by one, there is
//! [`TestSubscription::start`]. To call the processor alone, use
//! [`TestTask`](keylane::testing::TestTask). For a Kafka inside the test's process, use the crate
//! `keylane-embedded-broker`.

mod handle;
mod outcome;
mod seen;
mod subscription;
mod time;

pub use handle::TestHandle;
pub use keylane::testing::{AttemptResult, LocalRecord, Outcome};
pub use outcome::{Attempt, NotIdle};
pub use subscription::TestSubscription;
