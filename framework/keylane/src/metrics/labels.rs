//! The values of the bounded labels, one enum for each label.

use keylane_core::{Reason, RecordState};

/// A label of a metric, and what it may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LabelDef {
    /// The name of the label.
    pub name: &'static str,
    /// Every value the label can have; empty where the value comes from the configuration
    /// (subscription, topic, partition, version), which bounds it too.
    pub values: &'static [&'static str],
}

impl LabelDef {
    pub(super) const fn configured(name: &'static str) -> Self {
        Self { name, values: &[] }
    }
}

/// An enum whose values are the values of one label.
pub(crate) trait LabelValue: Copy + 'static {
    const LABEL: LabelDef;
    const ALL: &'static [Self];

    fn as_str(self) -> &'static str;

    /// The place of the value in [`ALL`](Self::ALL), which is how cached handles are found.
    fn index(self) -> usize;
}

macro_rules! label_enum {
    ($(#[$doc:meta])* $name:ident as $label:literal { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl LabelValue for $name {
            const LABEL: LabelDef = LabelDef { name: $label, values: &[$($text),+] };
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

label_enum! {
    /// The final word on a record.
    Outcome as "outcome" {
        Done = "done",
        Skipped = "skipped",
        /// Written to the retry topic and acknowledged.
        Retried = "retried",
        /// Written to the dead-letter topic and acknowledged.
        DeadLettered = "dead_lettered",
        /// Another group's retry, which that group processes.
        Foreign = "foreign",
    }
}

label_enum! {
    /// How one attempt ended.
    AttemptResult as "result" {
        Ok = "ok",
        Skip = "skip",
        /// A retryable error.
        Error = "error",
        Fatal = "fatal",
        Panic = "panic",
        Timeout = "timeout",
        /// The decoder refused the record: the processor was not called.
        Undecodable = "undecodable",
    }
}

label_enum! {
    /// What fails in an outage.
    OutageKind as "kind" {
        /// Everything: nothing succeeds.
        Total = "total",
        /// Many keys at one place, named by the processor.
        Place = "place",
        /// Many keys in the same way, while others succeed.
        Class = "class",
        /// Many records are undecodable, fatal or panic, and none succeeds.
        BadDeployment = "bad_deployment",
        /// What a few keys need, by the processor's word.
        Unavailable = "unavailable",
    }
}

label_enum! {
    /// Where a failed record waits for its next attempt.
    RetryPlace as "place" {
        InPlace = "in_place",
        Topic = "topic",
    }
}

label_enum! {
    /// What a waiting record waits for.
    RetryTier as "tier" {
        /// The delay of a retry in place.
        InPlace = "in_place",
        /// The delay of its first round through the retry topic.
        TopicFirst = "topic_first",
        TopicSecond = "topic_second",
        TopicThird = "topic_third",
        /// Of a round after the third.
        TopicLater = "topic_later",
        /// A write to the retry or dead-letter topic failed, and is made again after a delay.
        Write = "write",
        /// No retry: its producer does not want it to run earlier.
        NotBefore = "not_before",
    }
}

impl From<keylane_core::Wait> for RetryTier {
    fn from(wait: keylane_core::Wait) -> Self {
        use keylane_core::Wait;
        match wait {
            Wait::NotBefore => Self::NotBefore,
            Wait::InPlace => Self::InPlace,
            Wait::Topic { round: 0 | 1 } => Self::TopicFirst,
            Wait::Topic { round: 2 } => Self::TopicSecond,
            Wait::Topic { round: 3 } => Self::TopicThird,
            Wait::Topic { .. } => Self::TopicLater,
            Wait::Write => Self::Write,
        }
    }
}

/// Why a record was dead-lettered.
impl LabelValue for Reason {
    const LABEL: LabelDef = LabelDef {
        name: "reason",
        values: &[
            Self::Exhausted.as_str(),
            Self::Fatal.as_str(),
            Self::Undecodable.as_str(),
            Self::Panicked.as_str(),
            Self::TimedOut.as_str(),
            Self::Poison.as_str(),
            Self::Blocker.as_str(),
        ],
    };
    const ALL: &'static [Self] = &Self::ALL;

    fn as_str(self) -> &'static str {
        Self::as_str(self)
    }

    fn index(self) -> usize {
        self as usize
    }
}

label_enum! {
    /// Why the metadata of a commit was treated as empty.
    UnreadableMetadata as "reason" {
        /// Written by something else.
        Foreign = "foreign",
        Damaged = "damaged",
        /// Written by another version of keylane.
        Version = "version",
        /// The log was cut and written anew since: what the map names are other records.
        LogCut = "log_cut",
    }
}

label_enum! {
    /// What the lanes of a partition do.
    LaneState as "state" {
        /// An attempt runs.
        Busy = "busy",
        /// The lane waits for the back-off of its first record.
        Waiting = "waiting",
        Parked = "parked",
    }
}

/// What the oldest unsettled record of a partition does.
impl LabelValue for RecordState {
    const LABEL: LabelDef = LabelDef {
        name: "state",
        values: &[
            Self::Queued.as_str(),
            Self::Running.as_str(),
            Self::Waiting.as_str(),
            Self::NotDue.as_str(),
            Self::Publishing.as_str(),
            Self::Parked.as_str(),
            Self::Held.as_str(),
        ],
    };
    const ALL: &'static [Self] = &[
        Self::Queued,
        Self::Running,
        Self::Waiting,
        Self::NotDue,
        Self::Publishing,
        Self::Parked,
        Self::Held,
    ];

    fn as_str(self) -> &'static str {
        Self::as_str(self)
    }

    fn index(self) -> usize {
        self as usize
    }
}

label_enum! {
    /// Why a commit failed.
    CommitFailure as "kind" {
        /// The member is not of this generation any more: the records are another member's now.
        Fenced = "fenced",
        /// No answer in time, or no connection.
        Transport = "transport",
        /// Authentication or authorization.
        Auth = "auth",
        /// The broker refused the size of the metadata.
        MetadataTooLarge = "metadata_too_large",
        Other = "other",
    }
}

label_enum! {
    /// What a rebalance did, counted once for each event.
    Rebalance as "event" {
        Assign = "assign",
        Revoke = "revoke",
        Lost = "lost",
    }
}

label_enum! {
    /// How a drain ended.
    DrainResult as "result" {
        /// Everything that ran was finished.
        Drained = "drained",
        /// The deadline came first.
        Deadline = "deadline",
        /// The partition was lost meanwhile.
        Lost = "lost",
    }
}

label_enum! {
    /// Where a write of keylane's own goes.
    ProduceTarget as "target" {
        Retry = "retry",
        DeadLetter = "dead_letter",
    }
}

label_enum! {
    /// Whether a failed write can succeed later.
    ProduceFailure as "kind" {
        Transient = "transient",
        /// Refused for good; the record is parked.
        Refused = "refused",
        /// The record is larger than the topic allows, and is not written as it is: it is retried
        /// in place, or its dead letter is written with fewer headers. Where that does not help it
        /// is `refused`.
        TooLarge = "too_large",
    }
}

label_enum! {
    /// What the poll thread spends its time on.
    PollSection as "section" {
        /// Idle: blocked in the client until there is something to read.
        Wait = "wait",
        /// Taking records out of the client.
        Read = "read",
        /// Grouping records and handing them to the owners.
        HandOver = "hand_over",
        /// Pausing and resuming.
        Pause = "pause",
        /// Storing and committing offsets.
        Commit = "commit",
        /// Assigning and giving up. The wait for a drain is `wait`: the thread polls meanwhile.
        Rebalance = "rebalance",
    }
}

label_enum! {
    /// An error of the consumer's client.
    ConsumerError as "kind" {
        Transport = "transport",
        Auth = "auth",
        Other = "other",
    }
}

label_enum! {
    /// What a subscription is doing.
    State as "state" {
        Starting = "starting",
        Running = "running",
        /// By the user.
        Paused = "paused",
        /// Draining for shutdown.
        Draining = "draining",
        Stopped = "stopped",
        /// Ended by a fatal error.
        Failed = "failed",
    }
}
