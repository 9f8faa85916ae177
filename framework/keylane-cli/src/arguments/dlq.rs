//! `keylane dlq`: the commands about dead letters.

use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum};

use super::TopicPartition;
use super::redrive::{
    CancelArguments, RedriveArguments, ResolveArguments, StatusArguments, SureArguments,
};

#[derive(Debug, Subcommand)]
pub(crate) enum DlqCommand {
    /// Lists the dead letters of a topic, the last one given up first.
    Ls(LsArguments),
    /// Shows everything that one dead letter says, with key, value and headers.
    Show {
        /// The dead letter, as TOPIC/PARTITION@OFFSET.
        place: Place,
        /// Writes the value alone, byte for byte.
        #[arg(long)]
        raw: bool,
    },
    /// Counts the dead letters that fail alike.
    ///
    /// For each group of them: how many, when the first and the last one was given up, and the
    /// place of one. More than 10,000 groups are one last group.
    Stats {
        #[command(flatten)]
        letters: LettersArguments,
        /// What the letters of a group have in common.
        #[arg(long, value_enum, default_value_t)]
        by: By,
        #[command(flatten)]
        open: OpenArgument,
    },
    /// Writes dead letters back, to the retry topic of the group that gave them up.
    ///
    /// It says what it would do, and asks. Ctrl-C ends it after the transaction that is open; then
    /// --resume goes on. Exit code 3: some letters were not copied.
    Redrive(RedriveArguments),
    /// Shows the redrives of a group, those that run and those that have ended.
    Status(StatusArguments),
    /// Requests the end of a redrive that runs.
    Cancel(CancelArguments),
    /// Marks dead letters as handled by hand: they are no longer open.
    Resolve(ResolveArguments),
    /// Deletes the records of a dead-letter topic up to an offset of each partition.
    ///
    /// Where letters would be deleted that are neither written back nor resolved, it is refused
    /// (see --open-too). What is deleted is gone.
    Purge(PurgeArguments),
}

/// A dead-letter topic, and which of its letters.
#[derive(Debug, Args)]
pub(crate) struct LettersArguments {
    /// The dead-letter topic.
    pub(crate) topic: String,
    /// Only letters for which this holds; repeated, all have to hold: reason=exhausted,
    /// class=gateway::Busy, error~REGEX, fingerprint=ID, group=G, key=K, header:NAME=VALUE,
    /// partition=3, offset=100..200, time=2026-11-30T14:00:00Z.. or time=90m.. for the last 90
    /// minutes.
    #[arg(short, long, value_name = "TERM")]
    pub(crate) filter: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct LsArguments {
    #[command(flatten)]
    pub(crate) letters: LettersArguments,
    /// How many are shown at most.
    #[arg(short, long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) limit: u16,
    /// Begins with the one that was given up first.
    #[arg(long)]
    pub(crate) oldest_first: bool,
    #[command(flatten)]
    pub(crate) open: OpenArgument,
}

/// Whether letters that are done with count.
#[derive(Debug, Default, Args)]
pub(crate) struct OpenArgument {
    /// Only letters that were neither written back nor resolved.
    #[arg(long)]
    pub(crate) open: bool,
}

/// By what dead letters are grouped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    /// Reason, class, and the error's text without numbers and ids.
    #[default]
    Fingerprint,
    /// Why they were given up.
    Reason,
    /// The class of the last error.
    Class,
    /// The consumer group that gave them up.
    Group,
    /// The key of the record.
    Key,
    /// The hour in which they were given up, in UTC.
    Hour,
}

#[derive(Debug, Args)]
pub(crate) struct PurgeArguments {
    /// The dead-letter topic.
    pub(crate) topic: String,
    /// Only this partition; may be repeated. Without it, all of the topic.
    #[arg(short, long = "partition", value_name = "PARTITION")]
    pub(crate) partitions: Vec<i32>,
    /// Deletes what lies before this offset of a partition, or before the first record that was
    /// written at or after a time: 2026-11-30T14:00:00Z, or 30d for 30 days ago.
    #[arg(long, value_name = "OFFSET|TIME", required_unless_present = "handled")]
    pub(crate) before: Option<String>,
    /// Deletes what lies before the first letter of each partition that is open: neither written
    /// back nor resolved.
    #[arg(long, conflicts_with = "before")]
    pub(crate) handled: bool,
    /// Deletes letters as well that are neither written back nor resolved, and records that are no
    /// dead letters.
    #[arg(long)]
    pub(crate) open_too: bool,
    #[command(flatten)]
    pub(crate) sure: SureArguments,
}

/// Where a dead letter lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) partition: TopicPartition,
    pub(crate) offset: i64,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "give TOPIC/PARTITION@OFFSET, such as parking-events-dlq/3@42".to_owned();
        let (partition, offset) = text.rsplit_once('@').ok_or_else(wrong)?;
        let offset = offset.parse().ok().filter(|it| *it >= 0);
        Ok(Self {
            partition: partition.parse().map_err(|_| wrong())?,
            offset: offset.ok_or_else(wrong)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_a_partition_and_an_offset() {
        let place: Place = "parking-events-dlq/3@42".parse().unwrap();
        assert_eq!(
            (place.partition.topic.as_str(), place.partition.partition),
            ("parking-events-dlq", 3)
        );
        assert_eq!(place.offset, 42);
        for wrong in ["a/3", "a@3", "a/3@", "a/3@-1", "a/@3", "@", "", "a/3@4@5"] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }
}
