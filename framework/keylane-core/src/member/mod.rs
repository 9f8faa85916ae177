//! One subscription's part in its group: commits, marks, hand-overs, logs, pauses.

mod topic_partition;

pub use topic_partition::TopicPartition;
