//! One subscription's part in its group: commits, marks, hand-overs, logs, pauses.

mod commit_id;
mod commits;
mod epoch_commits;
pub mod hand_over;
mod last_commit;
mod marks;
mod metadata_limit;
mod pauses;
mod point;
mod read_log;
mod recent_reads;
mod refusal;
mod standing;
mod topic_partition;

pub use commit_id::CommitId;
pub use commits::{Answered, Commits, LastStep};
pub use epoch_commits::{Due, EpochCommits, Report};
pub use marks::{Outgoing, Refused};
pub use metadata_limit::MetadataLimit;
pub use pauses::{MORE_AHEAD_IN_AN_OUTAGE, PartitionLimits, PauseOrder, PauseWish, Pauses};
pub use point::{CommitPoint, CommittedPosition, OPENING};
pub use read_log::{Arrival, NextEpoch, Reached, ReadLog, Sighting};
pub use recent_reads::{RecentReads, fingerprint};
pub use refusal::{CommitResult, Refusal};
pub use standing::{Assignor, Standing};
pub use topic_partition::TopicPartition;
