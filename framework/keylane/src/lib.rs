//! Consume Kafka topics with per-key ordered, concurrent processing inside each partition.
//!
//! Implement [`Processor`]; keylane owns polling, key order, safe commits, retry, dead letters,
//! rebalances and shutdown. It is for work that waits: a database, an HTTP API, a push gateway.
//! Events of one key stay in order, and a slow key does not hold up the others.
//!
//! # A consumer
//! ```no_run
//! use keylane::{DeadLetter, Json, Retry, Subscription, Task, TaskError};
//! use std::time::Duration;
//! use tokio::signal::{ctrl_c, unix::{SignalKind, signal}};
//!
//! #[derive(serde::Deserialize)]
//! struct ParkingEvent { vehicle: String }
//!
//! async fn notify(task: Task<ParkingEvent>) -> Result<(), TaskError> {
//!     println!("{} moved, attempt {}", task.payload().vehicle, task.attempt());
//!     Ok(())
//! }
//!
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let subscription = Subscription::builder("parking-notifier", "parking-events")
//!     .bootstrap_servers("localhost:9092")
//!     .concurrency(64)
//!     .retry(Retry::for_at_least(Duration::from_secs(15 * 60)))
//!     .dead_letter(DeadLetter::topic("parking-events-dlq"))
//!     .start(Json, notify)
//!     .await?;
//! let mut terminate = signal(SignalKind::terminate())?; // how a container is stopped
//! subscription.run_until(async { tokio::select! { _ = terminate.recv() => {} _ = ctrl_c() => {} } }).await?;
//! # Ok(()) }
//! ```
//!
//! # Where things are
//! | aim | see |
//! |---|---|
//! | do the work | [`Processor`], [`Task`], [`TaskError`], [`Success`] |
//! | stop what an attempt has started elsewhere | [`Cancellation`](processing::Cancellation) |
//! | put a time-out, a fail-over or a check around the work | [`layers`] |
//! | decode values | [`Json`], [`Raw`], [`Decode`] |
//! | set it up | [`Subscription::builder`], or [`SubscriptionConfig`] from a file: every option, its default, price and effect |
//! | set what happens to failures | [`Retry`], [`Exhausted`](config::Exhausted), [`DeadLetter`], [`FailureReason`](config::FailureReason) |
//! | distinguish an outage from a bad record | [`Outage`](config::Outage), [`TaskError::unavailable`], [`OutageStatus`](status::OutageStatus) |
//! | recognise a dead letter that was written twice | [`FailedRecordId`](dead_letter::FailedRecordId) |
//! | read dead letters, and write them back | [`redrive`], [`NewTask::from_dead_letter`], [`Letter`](dead_letter::Letter), [`Filter`](dead_letter::Filter) |
//! | see what is stuck, and get it out of the way | [`Watchdog`](config::Watchdog), [`Blocker`](config::Blocker), [`OldestRecord`](status::OldestRecord), [`KeyHash`](record::KeyHash) |
//! | see which keys have the most records, take the most time, wait longest | [`SubscriptionHandle::hot_keys`] |
//! | watch and steer it | [`SubscriptionHandle`], [`SubscriptionStatus`](status::SubscriptionStatus), [`metrics`], and the crate `keylane-admin` |
//! | follow a record from its producer through all its attempts | [`trace`] |
//! | enqueue tasks | [`TaskProducer`], [`NewTask`] |
//! | create topics | [`topics`] |
//! | test | [`testing`], and the crates `keylane-testkit` (policies in virtual time) and `keylane-embedded-broker` |
//!
//! # What is guaranteed
//! A record is *settled* when it is done, skipped by the processor, or acknowledged by the broker
//! on the retry or dead-letter topic. A commit never covers an unsettled record. Records of one
//! (topic, partition, key) start in offset order and never overlap. Delivery is **at least once**:
//! a crash repeats what was in flight, and what was settled within the last commit interval. So
//! make processors idempotent. A record that goes through the retry topic gives up its place in the
//! order of its key; a retry in place keeps it. There is no order across partitions, and none for
//! records without a key.
//!
//! # Runtime
//! A subscription has one thread of its own, which polls and never runs your code. Attempts run on
//! the tokio runtime in which [`start`](subscription::SubscriptionBuilder::start) was called. Work
//! that blocks belongs into `tokio::task::spawn_blocking`: a time-out cannot reach a future that
//! does not await.
//!
//! # Features
//! None is on by default, and none changes what the others do.
//!
//! * `prometheus`: `metrics::serve_prometheus` serves the metrics over HTTP with one call.
//! * `otel`: attempts and enqueued tasks as spans of OpenTelemetry, in one trace; see [`trace`].
//! * `ssl`, `ssl-vendored`, `gssapi`, `cmake-build`, `dynamic-linking`: how librdkafka is built,
//!   passed through.

pub mod config;
#[doc(hidden)]
pub mod control;
pub mod dead_letter;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod kafka;
pub mod layers;
pub mod metrics;
mod polling;
pub mod processing;
pub mod producer;
pub mod record;
pub mod redrive;
mod runtime;
pub mod status;
pub mod subscription;
mod support;
pub mod testing;
pub mod trace;

pub use config::dead_letter::DeadLetter;
pub use config::retry::Retry;
pub use config::subscription_config::SubscriptionConfig;
#[doc(hidden)]
pub use kafka::operator;
pub use kafka::topics;
pub use processing::decode::{Decode, Json, Raw};
pub use processing::processor::Processor;
pub use processing::success::Success;
pub use processing::task::Task;
pub use processing::task_error::TaskError;
pub use producer::new_task::NewTask;
pub use producer::task_producer::TaskProducer;
pub use record::headers::Headers;
pub use subscription::handle::{Subscription, SubscriptionHandle};

/// What can go wrong: the errors of settings, subscriptions, producers and decoders. Each names the
/// thing and the fix. The errors of [`topics`], [`metrics`] and [`trace`] are beside their functions.
pub mod error {
    pub use crate::config::validate::ConfigError;
    pub use crate::kafka::config::ClientConfigError;
    pub use crate::producer::builder::TaskProducerError;
    pub use crate::producer::enqueue_error::{CloseError, EnqueueError, FlushError, ReturnedTask};
    pub use crate::record::decode_error::DecodeError;
    pub use crate::status::error::SubscriptionError;
    pub use crate::subscription::error::{ActError, PartitionNotAssigned, StartError};
}
