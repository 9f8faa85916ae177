//! What the shell is to do.

use std::time::Duration;

use super::TopicPartition;
use crate::Moment;

/// One thing to do, before the next order is taken. Partitions are sorted where owners are named,
/// see [`is_among`](super::is_among).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Nothing new starts in these partitions, and nothing more is fetched. What runs may finish
    /// until the deadline. Of several deadlines the earliest holds.
    Drain {
        /// The partitions.
        places: Vec<TopicPartition>,
        /// When the owners are ordered to end.
        deadline: Moment,
    },
    /// The same for a shutdown, with all partitions. Marks are taken back at once: a supervisor
    /// that sends SIGTERM and then SIGKILL is an ordinary deployment.
    DrainAll {
        /// All partitions.
        places: Vec<TopicPartition>,
        /// When the owners are ordered to end.
        deadline: Moment,
    },
    /// The owners are to end now, whatever runs.
    End {
        /// The partitions.
        places: Vec<TopicPartition>,
    },
    /// These partitions are others' already: their epochs are over, and nothing of them is stored or
    /// committed.
    Drop {
        /// The partitions.
        places: Vec<TopicPartition>,
    },
    /// The latest commit points of these partitions are their last: they are taken in, without a
    /// mark.
    TakeLast {
        /// The partitions.
        places: Vec<TopicPartition>,
    },
    /// What is new of these partitions is committed and the answer awaited. An earlier commit of
    /// this kind is forgotten.
    CommitLast {
        /// The partitions.
        places: Vec<TopicPartition>,
    },
    /// The epochs of these partitions are over, and the client's question is answered. What the
    /// broker is not known to have of their last points is sent before, if they are not all lost,
    /// and not waited for.
    Answer(Answer),
    /// The client is to close. What the broker is not known to have is sent before.
    Close,
    /// For the log: these owners did not end, and are given up.
    ReportRunningOwners {
        /// The partitions.
        places: Vec<TopicPartition>,
    },
    /// For the log: the last commit is given up.
    ReportUnanswered(Unanswered),
}

/// Whose last commit got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// That of a hand-over.
    HandOver,
    /// That of a shutdown.
    Shutdown,
}

/// The answer to all unanswered revokes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What is given back: all that was revoked, sorted.
    pub places: Vec<TopicPartition>,
    /// How it went.
    pub outcome: Outcome,
    /// How long the client has waited.
    pub took: Duration,
    /// Records delivered, not settled, and left to the next owners.
    pub pending: u64,
    /// Those that were taken for lost although the client did not name them. No
    /// [`Order::Drop`] was about them. Sorted.
    pub presumed_lost: Vec<TopicPartition>,
}

/// How a hand-over went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything that had started was finished.
    Drained,
    /// Attempts had to be dropped.
    Deadline,
    /// All of it was others' already.
    Lost,
}
