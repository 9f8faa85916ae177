//! Layers around the processor: what users would otherwise paste into `process`.
//!
//! A layer is given to the [builder](crate::subscription::SubscriptionBuilder::layer), or put
//! around a processor with [`Processor::layered`](crate::Processor::layered), for a test. The first
//! `.layer(..)` is the outermost: it gets the task first, and the answer last.
//!
//! | layer | what it does |
//! |---|---|
//! | [`Failover`] | calls another processor where the one inside fails |
//! | [`Timeout`] | ends what is inside after a time that is shorter than the attempt's |
//! | [`Validate`] | refuses a payload before the processor has it |
//! | [`Fields`] | puts message id, origin, key hash and headers on the log lines of the work |
//! | one of your own | [`Layer`] |
//!
//! # Order matters
//! ```text
//! .layer(Fields::default())             ┌ Fields ─────────────────────────────────┐
//! .layer(Failover::to(sms))             │ ┌ Failover ─────────────────┐           │
//! .layer(Timeout::of(two_seconds))      │ │ ┌ Timeout ──────┐         │           │
//! .start(Json, push)                    │ │ │     push      │ → sms   │           │
//!                                       │ │ └───────────────┘         │           │
//!                                       │ └───────────────────────────┘           │
//!                                       └─────────────────────────────────────────┘
//! ```
//! The time-out ends push, and the fail-over, being outside, sees that as an error. The other way
//! round the time-out would end both.
//!
//! # Examples
//! ```no_run
//! use std::time::Duration;
//!
//! use keylane::layers::{Failover, Fields, Timeout, Validate};
//! use keylane::{Json, Subscription, Task, TaskError};
//!
//! #[derive(Clone, serde::Deserialize)]
//! struct ParkingEvent { vehicle: String, text: String }
//!
//! async fn push(task: Task<ParkingEvent>) -> Result<(), TaskError> {
//!     println!("to the app of {}: {}", task.payload().vehicle, task.payload().text);
//!     Ok(())
//! }
//!
//! async fn sms(task: Task<ParkingEvent>) -> Result<(), TaskError> {
//!     println!("by SMS to {}: {}", task.payload().vehicle, task.payload().text);
//!     Ok(())
//! }
//!
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let subscription = Subscription::builder("parking-notifier", "parking-events")
//!     .layer(Fields::default())
//!     .layer(Validate::with(|event: &ParkingEvent| match event.vehicle.as_str() {
//!         "" => Err("an event without a vehicle"),
//!         _ => Ok(()),
//!     }))
//!     .layer(Failover::to(sms).after_failing_for(Duration::from_secs(60)))
//!     .layer(Timeout::of(Duration::from_secs(2)).at("push gateway"))
//!     .start(Json, push)
//!     .await?;
//! # Ok(()) }
//! ```
//!
//! A layer that does not fit the payload is an error of the compiler:
//! ```compile_fail,E0277
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! # use keylane::layers::Validate;
//! # use keylane::{Json, Subscription, Task, TaskError};
//! Subscription::builder("parking-notifier", "parking-events")
//!     .layer(Validate::with(|number: &u64| if *number > 0 { Ok(()) } else { Err("none") }))
//!     .start(Json, async |_: Task<String>| Ok::<(), TaskError>(()))
//!     .await?;
//! # Ok(()) }
//! ```

mod failover;
mod fields;
mod timeout;
mod validate;

#[doc(hidden)]
pub use crate::processing::layer::UsesProcessor;
pub use crate::processing::layer::{Layer, Layered, Layers, Next, Stack};
pub use failover::Failover;
pub use fields::Fields;
pub use timeout::Timeout;
pub use validate::Validate;
