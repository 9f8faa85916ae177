//! Consume Kafka topics with per-key ordered, concurrent processing inside each partition.
//!
//! Implement [`Processor`]; keylane owns polling, key order, safe commits, retry, dead letters, rebalances and shutdown.

pub mod admin;
mod client_config;
mod config;
mod consumer;
#[allow(dead_code, unused_imports)] // Until the runtime writes dead letters and retries.
mod dead_letter;
mod decode;
#[cfg(feature = "embedded-broker")]
mod embedded_broker;
mod headers;
pub mod metrics;
mod processor;
mod producer;
mod runtime;
mod subscription;
mod task;
mod task_error;
mod task_metadata;
#[allow(dead_code, unused_imports)] // Until a subscription checks its topics.
mod topics;

pub use decode::{Decode, DecodeError, Json, Raw};
#[cfg(feature = "embedded-broker")]
pub use embedded_broker::{EmbeddedBroker, EmbeddedBrokerError, EmbeddedBrokerOptions, Eviction, EvictionGuard};
pub use headers::Headers;
pub use processor::Processor;
pub use task::{Origin, Task};
pub use task_error::TaskError;
