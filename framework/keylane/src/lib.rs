//! Consume Kafka topics with per-key ordered, concurrent processing inside each partition.
//!
//! Implement [`Processor`]; keylane owns polling, key order, safe commits, retry, dead letters, rebalances and shutdown.

pub mod admin;
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
mod record;
mod runtime;
mod subscription;
mod task;
mod task_error;
mod task_metadata;
pub mod testing;
mod topics;

pub use client_config::ClientConfigError;
pub use config::{
    Backoff, ConfigError, DeadLetter, Exhausted, InPlace, KafkaSettings, Limits, Reading, Retry, RetryTopic,
    SubscriptionConfig,
};
pub use decode::{Decode, DecodeError, Json, Raw};
#[cfg(feature = "embedded-broker")]
pub use embedded_broker::{EmbeddedBroker, EmbeddedBrokerError, EmbeddedBrokerOptions, Eviction, EvictionGuard};
pub use headers::Headers;
pub use processor::Processor;
pub use producer::{
    CloseError, EnqueueError, Enqueued, FlushError, NewTask, TaskProducer, TaskProducerBuilder, TaskProducerError,
};
pub use record::{Origin, Record};
pub use subscription::{
    PartitionStatus, StartError, State, Subscription, SubscriptionBuilder, SubscriptionError, SubscriptionHandle,
    SubscriptionStatus, Trouble, TroubleKind,
};
pub use task::Task;
pub use task_error::TaskError;
pub use task_metadata::TaskMetadata;
