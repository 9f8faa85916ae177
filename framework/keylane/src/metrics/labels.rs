//! The values of the bounded labels, one enum for each label.

use keylane_core::{Reason, RecordState, RetryTier, Settlement};

use crate::status::{OutageKind, State};

/// A label of a metric, and its values.
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
    ($(#[$doc:meta])* $vis:vis $name:ident as $label:literal { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        $vis enum $name { $($(#[$variant_doc])* $variant,)+ }

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

/// Makes an enum that others have, too, the values of a label.
macro_rules! label_of {
    ($($name:ty as $label:literal;)+) => {
        $(impl LabelValue for $name {
            const LABEL: LabelDef = LabelDef {
                name: $label,
                values: &{
                    let mut texts = [""; Self::ALL.len()];
                    let mut index = 0;
                    while index < texts.len() {
                        texts[index] = Self::ALL[index].as_str();
                        index += 1;
                    }
                    texts
                },
            };
            const ALL: &'static [Self] = &Self::ALL;

            fn as_str(self) -> &'static str {
                Self::as_str(self)
            }

            fn index(self) -> usize {
                self as usize
            }
        })+
    };
}

label_of! {
    Settlement as "outcome";
    RetryTier as "tier";
    Reason as "reason";
    RecordState as "state";
    OutageKind as "kind";
}

/// What a subscription is doing. One that is rebalancing is running: some of its partitions are.
impl LabelValue for State {
    const LABEL: LabelDef = LabelDef {
        name: "state",
        values: &[
            Self::Starting.as_str(),
            Self::Running.as_str(),
            Self::Paused.as_str(),
            Self::Draining.as_str(),
            Self::Stopped.as_str(),
            Self::Failed.as_str(),
        ],
    };
    const ALL: &'static [Self] = &[
        Self::Starting,
        Self::Running,
        Self::Paused,
        Self::Draining,
        Self::Stopped,
        Self::Failed,
    ];

    fn as_str(self) -> &'static str {
        Self::as_str(self)
    }

    fn index(self) -> usize {
        match self {
            Self::Starting => 0,
            Self::Running | Self::Rebalancing => 1,
            Self::Paused => 2,
            Self::Draining => 3,
            Self::Stopped => 4,
            Self::Failed => 5,
        }
    }
}

label_enum! {
    /// How one attempt ended: the label `result` of `keylane_attempts_total`.
    #[non_exhaustive]
    pub AttemptResult as "result" {
        /// The processor has done it.
        Ok = "ok",
        /// The processor has skipped it.
        Skip = "skip",
        /// A retryable error, or an unavailable downstream.
        Error = "error",
        /// An error that no retry can fix.
        Fatal = "fatal",
        /// The processor panicked.
        Panic = "panic",
        /// The attempt took longer than `attempt_timeout`.
        Timeout = "timeout",
        /// The decoder refused the record: the processor was not called.
        Undecodable = "undecodable",
    }
}

label_enum! {
    /// Where a failed record waits for its next attempt.
    pub(crate) RetryPlace as "place" {
        InPlace = "in_place",
        Topic = "topic",
    }
}

label_enum! {
    /// Why the metadata of a commit was treated as empty.
    pub(crate) UnreadableMetadata as "reason" {
        /// Written by something else.
        Foreign = "foreign",
        Damaged = "damaged",
        /// Written by another version of keylane.
        Version = "version",
        /// The log was cut and written again since: what the map names are other records.
        LogCut = "log_cut",
    }
}

label_enum! {
    /// What the lanes of a partition do.
    pub(crate) LaneState as "state" {
        /// An attempt runs.
        Busy = "busy",
        /// The lane waits for the back-off of its first record.
        Waiting = "waiting",
        Parked = "parked",
        /// Its key is paused.
        Paused = "paused",
    }
}

label_enum! {
    /// Why a commit failed.
    pub(crate) CommitFailure as "kind" {
        /// The member is no longer of this generation: the records are another member's now.
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
    pub(crate) Rebalance as "event" {
        Assign = "assign",
        Revoke = "revoke",
        Lost = "lost",
    }
}

label_enum! {
    /// How a drain ended.
    pub(crate) DrainResult as "result" {
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
    pub(crate) ProduceTarget as "target" {
        Retry = "retry",
        DeadLetter = "dead_letter",
    }
}

label_enum! {
    /// Whether a failed write can succeed later.
    pub(crate) ProduceFailure as "kind" {
        Transient = "transient",
        /// Refused for good; the record is parked.
        Refused = "refused",
        /// The record is larger than the topic allows, and is not written as it is. It is retried
        /// in place, or its dead letter is written with fewer headers. Where that is too large as
        /// well, it is `refused`.
        TooLarge = "too_large",
    }
}

label_enum! {
    /// What the poll thread spends its time on.
    pub(crate) PollSection as "section" {
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
    pub(crate) ConsumerError as "kind" {
        Transport = "transport",
        Auth = "auth",
        Other = "other",
    }
}
