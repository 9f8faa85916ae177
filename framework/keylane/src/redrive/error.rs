//! Why a letter is not written back.

/// Why no copy of a dead letter is made. The message names the fix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RedriveError {
    /// The record has no dead letter's headers.
    #[error("the record at {place} has no dead letter's headers; it cannot be written back")]
    NotADeadLetter {
        /// Where it lies.
        place: String,
    },
    /// The letter names no retry topic.
    #[error(
        "the dead letter at {place} names no retry topic of its group; give the subscription a retry topic \
         (`Retry::then_topic`), or name the target: `Redrive::to_topic`, or `Redrive::to_origin`, where every \
         group gets the record again"
    )]
    NoRetryTopic {
        /// Where it lies.
        place: String,
    },
    /// The letter does not say where its record came from.
    #[error(
        "the dead letter at {place} does not say where its record came from; name the target by `Redrive::to_topic`"
    )]
    NoOrigin {
        /// Where it lies.
        place: String,
    },
    /// The letter was written without its record's key and value.
    #[error(
        "the dead letter at {place} has neither key nor value, as share groups write them by default: \
         a copy would be a tombstone; read the record from its origin"
    )]
    NoContent {
        /// Where it lies.
        place: String,
    },
    /// The record was written back too many times.
    #[error(
        "the record of the dead letter at {place} was written back {count} times, and failed again; find out why, \
         or allow more by `Redrive::max_count` (now {max_count})"
    )]
    TooOften {
        /// Where it lies.
        place: String,
        /// How many times.
        count: u32,
        /// How many times are allowed.
        max_count: u32,
    },
    /// How many times the record was written back cannot be read.
    #[error(
        "the dead letter at {place} has a header `keylane-redrive-count` that cannot be read, or is the highest \
         number: it counts as written back too many times; find out which program wrote the header, or allow it by \
         `Redrive::max_count(u32::MAX)`, which is no limit"
    )]
    UnreadableCount {
        /// Where it lies.
        place: String,
    },
    /// A header of the record has an empty name, which keylane's producer does not write.
    #[error(
        "the record of the dead letter at {place} has a header with an empty name, or one that begins with NUL: no \
         copy can have it; write the record back by a program of your own, without that header"
    )]
    HeaderName {
        /// Where it lies.
        place: String,
    },
    /// The task's name cannot be used.
    #[error("the name of a redrive has 1 to 100 letters, digits, dots, hyphens and underscores")]
    Name,
}

impl RedriveError {
    /// In a word, to count by.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotADeadLetter { .. } => "no-dead-letter",
            Self::NoRetryTopic { .. } => "no-retry-topic",
            Self::NoOrigin { .. } => "no-origin",
            Self::NoContent { .. } => "no-content",
            Self::TooOften { .. } | Self::UnreadableCount { .. } => "too-often",
            Self::HeaderName { .. } => "header-name",
            Self::Name => "name",
        }
    }
}
