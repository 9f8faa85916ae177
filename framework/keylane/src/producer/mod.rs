//! Enqueuing tasks: see [`TaskProducer`].

// Writing to Kafka and waiting for the broker's acknowledgement.
//
// [`TaskProducer`] is the public helper that enqueues tasks. It and the writes to retry and
// dead-letter topics use [`raw::RawProducer`]: one idempotent, bounded librdkafka producer on a
// thread of its own.
//
// | file | what it holds |
// |---|---|
// | `raw` | writing a record, the future of its acknowledgement, flush and close |
// | `outgoing` | the record, and the acknowledgement |
// | `queue` | handing a record to librdkafka |
// | `alone` | writing refused records again, one by one |
// | `client` | the librdkafka client, its thread, and its replacement after a fatal error |
// | `pending` | how much is on its way, the limits, and waiting for it |
// | `writer` | writing retries and dead letters, to Kafka or into memory |
// | `write_error` | what went wrong, and whether it can ever succeed |
// | `task_producer`, `config`, `builder`, `new_task`, `enqueue_error` | the public helper |
// | `partition_count` | the topics that keylane writes to by itself, and how many partitions they have |
// | `topic_check` | whether the topic exists, checked at start-up |
// | `transactions` | transactions of one producer, and the lock that its transactional id is |
// | `outbox` | what the crate `keylane-sql` writes with |

mod alone;
pub(crate) mod builder;
mod client;
mod config;
pub(crate) mod enqueue_error;
pub(crate) mod new_task;
#[doc(hidden)]
pub mod outbox;
mod outgoing;
mod partition_count;
mod pending;
mod queue;
pub(crate) mod raw;
pub(crate) mod task_producer;
mod topic_check;
pub(crate) mod transactions;
pub(crate) mod write_error;
mod writer;

pub use builder::TaskProducerBuilder;
pub(crate) use builder::TaskProducerError;
pub use config::{MessageIds, TaskFormat, TaskProducerConfig};
pub(crate) use enqueue_error::{CloseError, EnqueueError, FlushError};
pub(crate) use new_task::TaskSource;
pub use task_producer::Enqueued;
pub(crate) use task_producer::TaskProducer;

pub(crate) use partition_count::{PartitionCount, TopicTarget};
pub(crate) use writer::RecordWriter;

#[cfg(test)]
mod tests;
