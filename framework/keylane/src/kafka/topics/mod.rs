//! Topics: creating them.
//!
//! A subscription creates none by itself. What it uses must exist, and is checked when it starts.

mod cluster;
mod create;
mod error;
mod last_error;
mod left_behind;
mod plan;

pub use create::{CreateTopicsError, NewTopic, TopicCreation, create_topics};

pub(crate) use cluster::{Cluster, Lookup};
pub(crate) use error::{NamedTopic, TopicError, TopicRole, how_to_create_control};
pub(crate) use last_error::{LastError, is_tls_alert};
pub(crate) use plan::{TopicPlan, TopicReport, check};

/// The partition of a retry or dead-letter topic that keylane writes a record of `source` to.
///
/// The same number where there are that many partitions, else wrapped round: one source partition
/// always goes to one target partition, so records of one key stay together.
pub(crate) fn map_partition(source: i32, count: i32) -> i32 {
    // A topic has at least one partition; a count below that is a bug elsewhere and must not become
    // a division by zero.
    source.rem_euclid(count.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_keeps_its_number_where_it_can_and_wraps_where_it_cannot() {
        assert_eq!([0, 3, 7].map(|source| map_partition(source, 8)), [0, 3, 7]);
        assert_eq!([0, 3, 7].map(|source| map_partition(source, 3)), [0, 0, 1]);
        assert_eq!(map_partition(5, 1), 0);
        assert_eq!(map_partition(5, 0), 0);
    }
}
