//! The tree of commands.

mod dlq;
#[cfg(test)]
mod documented;
mod redrive;

use std::io;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::commands::control::arguments::{
    ControlCommand, PauseArguments, ResumeArguments, SkipArguments,
};
use crate::output::Format;
pub(crate) use dlq::{
    By, DlqCommand, LettersArguments, LsArguments, OpenArgument, Place, PurgeArguments,
};
pub(crate) use redrive::{
    ByArgument, CancelArguments, EditArguments, RedriveArguments, ResolveArguments,
    StatusArguments, SureArguments,
};

/// Looks into consumer groups of keylane.
///
/// Exit codes: 0 ok; 1 refused or failed, and nothing was changed; 2 wrong usage; 3 a part of the
/// result is missing, or it is unknown whether a change was made.
#[derive(Debug, Parser)]
#[command(name = "keylane", version, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) connection: ConnectionArguments,
    /// The form of the result.
    #[arg(short, long, global = true, value_enum, default_value_t)]
    pub(crate) output: Format,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectionArguments {
    /// Client settings: librdkafka's properties, or a settings file of a subscription (YAML or
    /// JSON). Environment: KEYLANE_CONFIG.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Brokers to start from. Environment: KEYLANE_BOOTSTRAP_SERVERS. The default is
    /// localhost:9092.
    #[arg(short, long, global = true, value_name = "HOST:PORT,...")]
    pub(crate) bootstrap: Option<String>,
    /// A client setting of librdkafka. Other users of the machine see it: give secrets by file or
    /// environment (KEYLANE_CLIENT_SASL_PASSWORD for sasl.password).
    #[arg(short = 'X', global = true, value_name = "NAME=VALUE")]
    pub(crate) setting: Vec<String>,
    /// How long an answer may take.
    #[arg(long, global = true, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Option<std::time::Duration>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows for each partition what is committed, where the log ends, and the lag between them.
    ///
    /// Some figures come from the members' admin endpoints, and are unknown without them: running,
    /// parked, not due, workable lag, the hottest key.
    Lag {
        #[command(flatten)]
        group: GroupArguments,
        /// The admin endpoint of a member, such as http://10.0.0.7:9465; repeated for each member.
        #[arg(long, value_name = "URL")]
        admin: Vec<String>,
    },
    /// Shows for each partition the oldest unsettled record, its age and its key.
    ///
    /// What the record does, its attempts and its last error come from the members' admin endpoints,
    /// and are unknown without them.
    Oldest {
        #[command(flatten)]
        group: GroupArguments,
        /// The admin endpoint of a member, such as http://10.0.0.7:9465; repeated for each member.
        #[arg(long, value_name = "URL")]
        admin: Vec<String>,
    },
    /// Shows the decoded commit of a partition: what is settled ahead, the crash evidence, the log.
    Map {
        /// The consumer group.
        group: String,
        /// The partition, as TOPIC/PARTITION.
        partition: TopicPartition,
    },
    /// Shows or moves what a group has committed.
    Offsets {
        #[command(subcommand)]
        command: OffsetsCommand,
    },
    /// Pauses a group, a topic, a partition or a key in every member, by the control topic.
    ///
    /// The pause holds over restarts and rebalances until it is resumed or --until is there. What
    /// runs finishes. Members need control_topic in their settings.
    Pause(PauseArguments),
    /// Ends such a pause. It is named as it was when it was paused.
    Resume(ResumeArguments),
    /// Settles one record without an attempt, by the control topic.
    ///
    /// It holds until it is carried out and committed, in whichever member. It is void where the
    /// topic is re-created.
    Skip(SkipArguments),
    /// Shows what is ordered by a group's control topic, or creates the topic.
    Control {
        #[command(subcommand)]
        command: ControlCommand,
    },
    /// Looks at dead letters, writes them back, and deletes what is done with.
    ///
    /// It reads the topic from its beginning to its end, joins no group, and reads the letters of
    /// other programs too: Spring, KIP-1191, Connect, Karafka, SmallRye.
    Dlq {
        #[command(subcommand)]
        command: DlqCommand,
    },
    /// Checks what a group needs of its cluster, and names a fix for each problem.
    ///
    /// It commits 4,000 bytes of metadata for the group GROUP.keylane-doctor, and deletes that
    /// group. The exit code is 1 where there is a problem.
    Doctor {
        #[command(flatten)]
        group: GroupArguments,
        /// A retry topic that is not named ORIGIN-retry; may be repeated.
        #[arg(long, value_name = "TOPIC")]
        retry_topic: Vec<String>,
    },
    /// Has members start no attempt of a key, until it is resumed or the partition is given up.
    ///
    /// It does not survive a restart of the member. Acts on keys and records go to the members'
    /// admin endpoints, and need their token: by --token-file, or the environment
    /// KEYLANE_ADMIN_TOKEN.
    PauseKey(KeyActArguments),
    /// Has members start the attempts of a paused key again.
    ResumeKey(KeyActArguments),
    /// Ends the waiting of a key's records for a back-off or their due time.
    RetryNow(KeyActArguments),
    /// Writes one record to the dead-letter topic, and settles it by that.
    DeadLetterNow(RecordActArguments),
    /// Lets go the records that members hold because of an outage. Good ones may be among them.
    Release(ReleaseArguments),
    /// Prints a completion script for a shell.
    Completion {
        /// The shell.
        shell: Shell,
    },
    /// Prints the manual page.
    Man,
}

/// The members that an act is for, and who orders it.
#[derive(Debug, Args)]
pub(crate) struct ActArguments {
    /// The consumer group.
    pub(crate) group: String,
    /// The admin endpoint of a member, such as http://10.0.0.7:9465; repeated for each member.
    #[arg(long, value_name = "URL", required = true)]
    pub(crate) admin: Vec<String>,
    /// A file with the token of the endpoints. Without it, the environment KEYLANE_ADMIN_TOKEN.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct KeyActArguments {
    #[command(flatten)]
    pub(crate) members: ActArguments,
    #[command(flatten)]
    pub(crate) key: KeyArguments,
    /// Only in this topic. Without it in all, the retry topic too.
    #[arg(short, long)]
    pub(crate) topic: Option<String>,
    #[command(flatten)]
    pub(crate) note: NoteArguments,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct KeyArguments {
    /// The key, where it is text.
    #[arg(short, long)]
    pub(crate) key: Option<String>,
    /// The key's hash, as hot keys and the oldest records have it: 16 hexadecimal digits.
    #[arg(long, value_name = "HASH")]
    pub(crate) key_hash: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RecordActArguments {
    #[command(flatten)]
    pub(crate) members: ActArguments,
    /// The record, as TOPIC/PARTITION@OFFSET.
    pub(crate) record: RecordPlace,
    #[command(flatten)]
    pub(crate) note: NoteArguments,
}

#[derive(Debug, Args)]
pub(crate) struct ReleaseArguments {
    #[command(flatten)]
    pub(crate) members: ActArguments,
    #[command(flatten)]
    pub(crate) note: NoteArguments,
}

#[derive(Debug, Args)]
pub(crate) struct NoteArguments {
    /// Why, for the log and the dead letter.
    #[arg(long)]
    pub(crate) why: String,
    /// Who orders it. Without it, the environment USER.
    #[arg(long)]
    pub(crate) by: Option<String>,
    /// Only says what it would do: which record, what runs, and how many records of the key wait.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum OffsetsCommand {
    /// Shows for each partition what is committed, and the range of the log.
    Show {
        #[command(flatten)]
        group: GroupArguments,
    },
    /// Moves the committed offsets of a group without members: back for a replay, or forward.
    ///
    /// Everything from the new position on is processed again, also what was settled ahead of the
    /// commit (see --keep-settled). Where unsettled records lie before the new position, it is
    /// refused (see --skip). Retries in a retry topic stay where they are.
    Reset(ResetArguments),
}

#[derive(Debug, Args)]
pub(crate) struct ResetArguments {
    /// The consumer group.
    pub(crate) group: String,
    /// The topic.
    #[arg(short, long)]
    pub(crate) topic: String,
    /// Only this partition; may be repeated. Without it, all of the topic.
    #[arg(short, long = "partition", value_name = "PARTITION")]
    pub(crate) partitions: Vec<i32>,
    #[command(flatten)]
    pub(crate) target: TargetArguments,
    /// Leaves what is settled from the target on as it is, and crash evidence too. Without it, all
    /// of that is processed again.
    #[arg(long)]
    pub(crate) keep_settled: bool,
    /// Allows to pass over unsettled records below the target: the group never processes them.
    #[arg(long)]
    pub(crate) skip: bool,
    #[command(flatten)]
    pub(crate) sure: SureArguments,
}

#[derive(Debug, Default, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct TargetArguments {
    /// To the first record at or after a time: 2026-11-30T14:00:00Z, or 90m for 90 minutes ago.
    #[arg(long, value_name = "TIME")]
    pub(crate) to_time: Option<String>,
    /// To this offset.
    #[arg(long, value_name = "OFFSET")]
    pub(crate) to_offset: Option<i64>,
    /// By this many offsets, back where it is negative; within the log.
    #[arg(long, value_name = "OFFSETS", allow_negative_numbers = true)]
    pub(crate) shift: Option<i64>,
    /// To the first record that is there.
    #[arg(long)]
    pub(crate) to_earliest: bool,
    /// To the end of the log.
    #[arg(long)]
    pub(crate) to_latest: bool,
}

/// A group, and which of its topics.
#[derive(Debug, Args)]
pub(crate) struct GroupArguments {
    /// The consumer group.
    pub(crate) group: String,
    /// Only this topic; may be repeated. Without it, all topics that the group has commits of.
    #[arg(short, long = "topic", value_name = "TOPIC")]
    pub(crate) topics: Vec<String>,
}

/// The manual page: the command, and one section for each command below it.
pub(crate) fn manual(output: &mut dyn io::Write) -> io::Result<()> {
    let mut tree = Arguments::command();
    tree.build();
    clap_mangen::Man::new(tree.clone()).render(output)?;
    for command in tree.get_subcommands().filter(|it| it.get_name() != "help") {
        below(command, output)?;
    }
    Ok(())
}

fn below(command: &clap::Command, output: &mut dyn io::Write) -> io::Result<()> {
    let man = clap_mangen::Man::new(command.clone());
    writeln!(
        output,
        ".SH \"{}\"",
        command.get_bin_name().unwrap_or_default().to_uppercase()
    )?;
    man.render_description_section(&mut *output)?;
    man.render_synopsis_section(&mut *output)?;
    man.render_options_section(&mut *output)?;
    for command in command
        .get_subcommands()
        .filter(|it| it.get_name() != "help")
    {
        below(command, output)?;
    }
    Ok(())
}

/// A partition of a topic. Topics' names hold no slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicPartition {
    pub(crate) topic: String,
    pub(crate) partition: i32,
}

impl FromStr for TopicPartition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (topic, partition) = text.split_once('/').unwrap_or_default();
        let partition = partition.parse().ok().filter(|it| *it >= 0);
        match partition {
            Some(partition) if keylane_core::check_topic_name(topic).is_ok() => Ok(Self {
                topic: topic.to_owned(),
                partition,
            }),
            _ => Err("give TOPIC/PARTITION, such as parking-events/3".to_owned()),
        }
    }
}

/// A record by its offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordPlace {
    pub(crate) partition: TopicPartition,
    pub(crate) offset: i64,
}

impl FromStr for RecordPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (partition, offset) = text.split_once('@').unwrap_or_default();
        let offset = offset.parse().ok().filter(|it| *it >= 0);
        match (partition.parse(), offset) {
            (Ok(partition), Some(offset)) => Ok(Self { partition, offset }),
            _ => Err("give TOPIC/PARTITION@OFFSET, such as parking-events/3@4711".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_sound_and_has_a_manual_page_with_every_command() {
        Arguments::command().debug_assert();
        let mut page = Vec::new();
        manual(&mut page).unwrap();
        let page = String::from_utf8(page).unwrap();
        for command in Arguments::command().get_subcommands() {
            let title = format!(".SH \"KEYLANE {}\"", command.get_name().to_uppercase());
            assert!(page.contains(&title), "{title} is not in {page}");
        }
    }

    #[test]
    fn a_partition_is_a_topic_and_a_number() {
        let partition = |text: &str| text.parse::<TopicPartition>();
        let parsed = partition("parking-events/3").unwrap();
        assert_eq!((&*parsed.topic, parsed.partition), ("parking-events", 3));
        for wrong in ["parking-events", "/3", "a/-1", "a/b", "a/3/4", "a b/3"] {
            assert!(partition(wrong).is_err(), "{wrong}");
        }
        let record = "parking-events/3@4711".parse::<RecordPlace>().unwrap();
        assert_eq!((record.partition, record.offset), (parsed, 4_711));
        for wrong in ["parking-events/3", "a/3@", "a/3@-1", "a@3"] {
            assert!(wrong.parse::<RecordPlace>().is_err(), "{wrong}");
        }
    }
}
