//! The rules of a transactional outbox: which bucket a key is in, which relay has a bucket, and how
//! many rows go into a transaction.
//!
//! An outbox is a table of tasks that wait for Kafka. Its rows are in *buckets*; all rows of a key are in
//! one. A *relay* publishes the rows of the buckets that it holds, in the order of their numbers.

mod batch_limit;
mod bucket;
mod shares;

pub use batch_limit::BatchLimit;
pub use bucket::{Bucket, bucket_of, key_lock};
pub use shares::{Holder, Moves, moves, share};
