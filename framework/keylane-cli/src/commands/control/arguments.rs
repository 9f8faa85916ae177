//! What the commands of the control topic take.

use std::str::FromStr;

use clap::{Args, Subcommand};
use keylane::record::KeyHash;
use keylane_core::Offset;

use crate::arguments::TopicPartition;

#[derive(Debug, Subcommand)]
pub(crate) enum ControlCommand {
    /// Shows what is ordered, by whom and why, and which members run it.
    Show {
        #[command(flatten)]
        group: ControlGroup,
    },
    /// Takes out what is of no more use: acknowledgements of members that are gone, and orders that
    /// have ended by themselves. Where it is not known which members are live, all acknowledgements;
    /// those that are live write theirs again at once.
    Prune {
        #[command(flatten)]
        group: ControlGroup,
        /// Only shows what would be taken out.
        #[arg(long)]
        dry_run: bool,
    },
    /// Creates the control topic: compacted, with one partition.
    Create {
        #[command(flatten)]
        group: ControlGroup,
        /// On how many brokers it is kept; without it, the brokers' default.
        #[arg(long, value_name = "BROKERS", value_parser = clap::value_parser!(i32).range(1..=100))]
        replication_factor: Option<i32>,
    },
}

/// A group with its control topic.
#[derive(Debug, Args)]
pub(crate) struct ControlGroup {
    /// The consumer group.
    pub(crate) group: String,
    /// The control topic, where it is not GROUP-keylane-control.
    #[arg(long, value_name = "TOPIC")]
    pub(crate) control_topic: Option<String>,
}

/// What is paused; without any of it, everything that the group reads.
#[derive(Debug, Args)]
pub(crate) struct WhatArguments {
    /// A topic. The retry topic is another one.
    #[arg(short, long)]
    pub(crate) topic: Option<String>,
    /// A partition of it.
    #[arg(short, long, requires = "topic", value_parser = clap::value_parser!(i32).range(0..))]
    pub(crate) partition: Option<i32>,
    /// A key of it, as text. In the retry topic it is another one: name that topic.
    #[arg(short, long, requires = "topic", conflicts_with_all = ["partition", "key_hash"])]
    pub(crate) key: Option<String>,
    /// The hash of a key of it, as hot keys and the status show it.
    #[arg(long, requires = "topic", conflicts_with = "partition", value_name = "HASH", value_parser = key_hash)]
    pub(crate) key_hash: Option<KeyHash>,
}

/// Who orders it, and why.
#[derive(Debug, Args)]
pub(crate) struct NoteArguments {
    /// Why; every member shows it.
    #[arg(long, value_name = "TEXT")]
    pub(crate) why: String,
    /// Who orders it; without it, the variable USER.
    #[arg(long, value_name = "WHO")]
    pub(crate) by: Option<String>,
}

/// How it is written.
#[derive(Debug, Args)]
pub(crate) struct HowArguments {
    /// Only shows what would be done.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Does not wait until the members have applied it, which it does up to --timeout. The exit code
    /// is 3 where some have not.
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) no_wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PauseArguments {
    #[command(flatten)]
    pub(crate) group: ControlGroup,
    #[command(flatten)]
    pub(crate) what: WhatArguments,
    #[command(flatten)]
    pub(crate) note: NoteArguments,
    /// When it ends by itself: 2026-11-30T14:00:00Z, or 2h for two hours from now. Each member
    /// judges it by its own clock.
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Takes the place of a pause that another operator has ordered.
    #[arg(long)]
    pub(crate) replace: bool,
    #[command(flatten)]
    pub(crate) how: HowArguments,
}

#[derive(Debug, Args)]
pub(crate) struct ResumeArguments {
    #[command(flatten)]
    pub(crate) group: ControlGroup,
    #[command(flatten)]
    pub(crate) what: WhatArguments,
    #[command(flatten)]
    pub(crate) how: HowArguments,
}

#[derive(Debug, Args)]
pub(crate) struct SkipArguments {
    #[command(flatten)]
    pub(crate) group: ControlGroup,
    /// The record, as TOPIC/PARTITION@OFFSET.
    pub(crate) record: Place,
    /// Takes the order back, where it is not carried out yet.
    #[arg(long, conflicts_with_all = ["why", "by"])]
    pub(crate) cancel: bool,
    /// Why; every member shows it.
    #[arg(long, value_name = "TEXT", required_unless_present = "cancel")]
    pub(crate) why: Option<String>,
    /// Who orders it; without it, the variable USER.
    #[arg(long, value_name = "WHO")]
    pub(crate) by: Option<String>,
    #[command(flatten)]
    pub(crate) how: HowArguments,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) partition: TopicPartition,
    pub(crate) offset: Offset,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "give TOPIC/PARTITION@OFFSET, such as parking-events/3@4711".to_owned();
        let (partition, offset) = text.split_once('@').ok_or_else(wrong)?;
        let offset = offset.parse().ok().filter(|it| *it >= 0);
        Ok(Self {
            partition: partition.parse().map_err(|_| wrong())?,
            offset: Offset::new(offset.ok_or_else(wrong)?),
        })
    }
}

/// The hash of a key, as users see it.
pub(crate) fn key_hash(text: &str) -> Result<KeyHash, String> {
    KeyHash::parse(text)
        .ok_or_else(|| "give the 16 hexadecimal digits that the status shows".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_a_partition_and_an_offset_and_a_hash_has_16_digits() {
        let place: Place = "parking-events/3@4711".parse().unwrap();
        assert_eq!(
            (place.partition.partition, place.offset),
            (3, Offset::new(4711))
        );
        for wrong in [
            "parking-events/3",
            "parking-events@3",
            "a/1@-1",
            "a/1@x",
            "@",
        ] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
        assert!(key_hash("00000000000000ff").is_ok());
        for wrong in ["ff", "x0000000000000ff", "+0000000000000ff", ""] {
            assert!(key_hash(wrong).is_err(), "{wrong}");
        }
    }
}
