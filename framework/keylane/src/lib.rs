//! Consume Kafka topics with per-key ordered, concurrent processing inside each partition.
//!
//! Implement [`Processor`]; keylane owns polling, key order, safe commits, retry, dead letters, rebalances and shutdown.

mod client_config;
mod config;
mod consumer;
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
mod topics;

pub use client_config::ClientConfigError;
pub use decode::{Decode, DecodeError, Json, Raw};
pub use headers::Headers;
pub use processor::Processor;
pub use producer::{
    CloseError, EnqueueError, Enqueued, FlushError, NewTask, TaskProducer, TaskProducerBuilder, TaskProducerError,
};
pub use task::{Origin, Task};
pub use task_error::TaskError;
pub use task_metadata::TaskMetadata;
