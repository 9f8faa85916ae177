//! One subscription's part in its group: commits, marks, hand-overs, logs, pauses.

pub mod hand_over;
mod standing;
mod topic_partition;

pub use standing::{Assignor, Standing};
pub use topic_partition::TopicPartition;
