//! `keylane dlq redrive`, and what is done about tasks and letters besides.

use clap::Args;

use super::LettersArguments;

#[derive(Debug, Args)]
pub(crate) struct RedriveArguments {
    #[command(flatten)]
    pub(crate) letters: LettersArguments,
    /// The group that gave the letters up. Without it, the one that all matching letters name.
    #[arg(short, long)]
    pub(crate) group: Option<String>,
    #[command(flatten)]
    pub(crate) target: RedriveTarget,
    #[command(flatten)]
    pub(crate) edit: EditArguments,
    /// Copies a second at most.
    #[arg(long, value_name = "COPIES", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: Option<u32>,
    /// Copies at most.
    #[arg(long, value_name = "COPIES")]
    pub(crate) max: Option<u64>,
    /// Copies of one transaction at most.
    #[arg(long, value_name = "COPIES", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) window: Option<u32>,
    /// Copies so many first, and waits for what becomes of them. The others follow where enough
    /// succeed (see --proceed-if).
    #[arg(long, value_name = "COPIES", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) canary: Option<u32>,
    /// How many percent of the canary have to succeed.
    #[arg(long, value_name = "PERCENT", default_value = "95", requires = "canary",
        value_parser = percent)]
    pub(crate) proceed_if: u8,
    /// How many times the same record may be written back.
    #[arg(long, value_name = "TIMES", default_value_t = 3)]
    pub(crate) max_count: u32,
    /// Passes over letters whose copy cannot be written. Without it, the task ends there.
    #[arg(long)]
    pub(crate) skip_refused: bool,
    /// The name of the task, which every copy has in its keylane-redrive-id. Without it, one is
    /// made of the time.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Goes on with this task, as it was started. Filter, target and settings are those of the task.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["name", "filter", "take_over"])]
    pub(crate) resume: Option<String>,
    /// Ends a task of this group and topic that did not end by itself, and starts this one.
    #[arg(long)]
    pub(crate) take_over: bool,
    /// Why, as it is recorded.
    #[arg(long, value_name = "TEXT")]
    pub(crate) why: Option<String>,
    #[command(flatten)]
    pub(crate) by: ByArgument,
    #[command(flatten)]
    pub(crate) sure: SureArguments,
}

/// Where copies go. Without any, to the retry topic that a letter names.
#[derive(Debug, Default, Args)]
pub(crate) struct RedriveTarget {
    /// To this topic, or with `origin` to the topic where each record was read first. Every group
    /// that reads it gets the records.
    #[arg(long, value_name = "origin|TOPIC", conflicts_with = "retry_topic")]
    pub(crate) to: Option<String>,
    /// To this retry topic of the group, for letters that name none.
    #[arg(long, value_name = "TOPIC", requires = "group")]
    pub(crate) retry_topic: Option<String>,
}

/// What is done to each value.
#[derive(Debug, Default, Args)]
#[group(multiple = false)]
pub(crate) struct EditArguments {
    /// Changes each value by a JSON merge patch (RFC 7396), given as JSON or as @FILE.
    #[arg(long, value_name = "JSON|@FILE")]
    pub(crate) merge_patch: Option<String>,
    /// Changes each value by a command of the shell: its input is the value, its output the new
    /// one. It runs anew for each letter, for 30 seconds at most.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) through: Option<String>,
}

/// Whether it is done, and whether that is asked before.
#[derive(Debug, Default, Args)]
pub(crate) struct SureArguments {
    /// Only shows what would be done.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Does it without a question.
    #[arg(short, long)]
    pub(crate) yes: bool,
}

/// Who does it, for the record that is kept.
#[derive(Debug, Default, Args)]
pub(crate) struct ByArgument {
    /// Who does it, as it is recorded. Without it, USER@HOST.
    #[arg(long, value_name = "WHO")]
    pub(crate) by: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArguments {
    /// The consumer group. Without it, all groups that this client may see.
    pub(crate) group: Option<String>,
    /// Only this task, whole.
    #[arg(long, value_name = "NAME", requires = "group")]
    pub(crate) task: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CancelArguments {
    /// The consumer group.
    pub(crate) group: String,
    /// The name of the task.
    pub(crate) task: String,
    /// Why, as it is recorded.
    #[arg(long, value_name = "TEXT")]
    pub(crate) why: String,
    #[command(flatten)]
    pub(crate) by: ByArgument,
}

#[derive(Debug, Args)]
pub(crate) struct ResolveArguments {
    /// The letters, as TOPIC/PARTITION@OFFSET; or their topic, with a filter.
    #[arg(required = true, value_name = "PLACE|TOPIC")]
    pub(crate) letters: Vec<String>,
    /// Only letters of the topic for which this holds; as for `dlq ls`.
    #[arg(short, long, value_name = "TERM")]
    pub(crate) filter: Vec<String>,
    /// The group that gave them up. Without it, the one that all of them name.
    #[arg(short, long)]
    pub(crate) group: Option<String>,
    /// Why, as it is recorded.
    #[arg(long, value_name = "TEXT")]
    pub(crate) why: String,
    /// Takes it back.
    #[arg(long)]
    pub(crate) undo: bool,
    #[command(flatten)]
    pub(crate) by: ByArgument,
    #[command(flatten)]
    pub(crate) sure: SureArguments,
}

fn percent(text: &str) -> Result<u8, String> {
    let percent = text.parse().ok().filter(|it| (1..=100).contains(it));
    percent.ok_or_else(|| "give a number from 1 to 100".to_owned())
}
