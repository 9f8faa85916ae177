//! What can become of attempts, writes and records.

use std::time::Duration;

use super::Ticket;
use crate::failure::Reason;
use crate::offset::Offset;
use crate::outage_guard::HeldBy;

/// How an attempt succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Success {
    /// The record is processed.
    Done,
    /// The processor chose to leave the record out, which is counted.
    Skipped,
}

/// How a record was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Settlement {
    /// Processed.
    Done,
    /// Left out by explicit policy.
    Skipped,
    /// On the retry topic, acknowledged by the broker.
    Retried,
    /// On the dead-letter topic, acknowledged by the broker.
    DeadLettered,
    /// A retry of another group, which processes it.
    Foreign,
    /// Left out because an operator ordered it.
    SkippedByOperator,
}

impl Settlement {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 6] = [
        Self::Done,
        Self::Skipped,
        Self::Retried,
        Self::DeadLettered,
        Self::Foreign,
        Self::SkippedByOperator,
    ];

    /// The value of the `outcome` label in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Skipped => "skipped",
            Self::Retried => "retried",
            Self::DeadLettered => "dead_lettered",
            Self::Foreign => "foreign",
            Self::SkippedByOperator => "skipped_by_operator",
        }
    }
}

/// Where a record is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publish {
    /// The retry topic, due `delay` from now.
    Retry {
        /// The record's new count of rounds, to travel in its headers.
        round: u32,
        /// How long it must not run.
        delay: Duration,
    },
    /// The dead-letter topic.
    DeadLetter {
        /// Why.
        reason: Reason,
    },
}

/// A write to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishRequest {
    /// The ticket to pass back with the result.
    pub ticket: Ticket,
    /// The record's offset.
    pub offset: Offset,
    /// Where to and with what.
    pub publish: Publish,
    /// How often the record was attempted, over all retries known of.
    pub attempts: u32,
    /// For [`Publish::Retry`]: the record's retry time, the delay of this round included. It
    /// travels with the record, to be given back in [`Delivery::retried_for`](crate::Delivery).
    pub retried_for: Duration,
    /// Which headers are added to the record. Fewer than all only where a dead letter was too
    /// large.
    pub headers: FailureHeaders,
}

/// Which headers about its failure a written record gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailureHeaders {
    /// All of them.
    #[default]
    All,
    /// All but the error's text, the longest one, and those for other programs.
    WithoutError,
    /// Its origin, the group and the reason.
    Fewest,
}

impl FailureHeaders {
    /// The next smaller set.
    pub const fn fewer(self) -> Option<Self> {
        match self {
            Self::All => Some(Self::WithoutError),
            Self::WithoutError => Some(Self::Fewest),
            Self::Fewest => None,
        }
    }
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishResult {
    /// The broker has it.
    Acknowledged,
    /// It failed but may work later: it is tried again after a back-off, without end.
    Failed,
    /// The broker will never take it: the record is parked.
    Refused,
    /// Written alone, the record is larger than a limit of the client, the topic or the broker.
    ///
    /// A retry goes back to its lane: it is retried in place, after the delay of that round, and
    /// does not go through the retry topic again. A dead letter is written with [fewer
    /// headers](FailureHeaders), and parked where it is too large with the fewest.
    TooLarge,
}

/// What a result does to its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict<R> {
    /// It is settled and no longer pending.
    Settled {
        /// How it was settled.
        outcome: Settlement,
        /// Its offset.
        offset: Offset,
        /// How often it was attempted, over all retries known of.
        attempts: u32,
        /// The record, given back.
        record: R,
    },
    /// It is tried again after a delay; its lane waits.
    Waiting {
        /// How long.
        delay: Duration,
        /// Why it is held, where the policy alone would have given it up.
        held: Option<HeldBy>,
    },
    /// It is to be written: see [`next_publish`](super::Partition::next_publish).
    Publishing,
    /// It stays unsettled and holds its lane, for good.
    Parked {
        /// Why.
        reason: ParkReason,
    },
    /// The subscription is to end. The record stays unsettled and nothing more starts in this
    /// partition.
    Stop {
        /// Why.
        reason: Reason,
        /// The record's offset.
        offset: Offset,
    },
    /// The ticket was not, or no longer, good: nothing changed.
    Stale,
}

/// Why a record is parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ParkReason {
    /// The policy is [`Exhausted::Park`](crate::Exhausted::Park).
    Policy(Reason),
    /// It cannot be decoded, or is poison, and there is no dead-letter topic for it.
    NoDeadLetterTopic,
    /// The broker refused for good to take it on the retry or dead-letter topic.
    Refused,
    /// It is too large for the dead-letter topic, also with the fewest headers.
    TooLarge,
}
