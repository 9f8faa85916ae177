//! What the commands of the control topic take.

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum ControlCommand {
    /// Shows what is ordered, by whom and why, and which members run it.
    Show {
        #[command(flatten)]
        group: ControlGroup,
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
}

#[derive(Debug, Args)]
pub(crate) struct ResumeArguments {
    #[command(flatten)]
    pub(crate) group: ControlGroup,
    #[command(flatten)]
    pub(crate) what: WhatArguments,
}
