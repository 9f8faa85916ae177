//! The command line.

use std::path::PathBuf;

use clap::Parser;

use crate::{evidence::COMMIT_GRACE_MS, settings::Protocol};

/// Breaks a group of keylane members, its brokers and its topics from a seed, and checks that the
/// promises hold.
///
/// Prints one line of JSON to the standard output, all else to the standard error. Ends with 0
/// where every promise was kept, with 1 where one was broken, with 2 where it could not be tried.
#[derive(Debug, Clone, Parser)]
pub struct Options {
    /// What happens when; a run is repeated with the same seed.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How long things are broken; healing and checking come on top.
    #[arg(long, default_value_t = 1.5)]
    pub minutes: f64,
    /// The group protocol.
    #[arg(long, value_enum, default_value_t = Protocol::Cooperative)]
    pub protocol: Protocol,
    /// The brokers of a Kafka that runs already, which are left alone; without it three are
    /// started.
    #[arg(long)]
    pub bootstrap: Option<String>,
    /// Members of the group, besides those that come and go.
    #[arg(long, default_value_t = 3)]
    pub members: usize,
    /// Records a second.
    #[arg(long, default_value_t = 200)]
    pub rate: u64,
    /// Different keys.
    #[arg(long, default_value_t = 200)]
    pub keys: u64,
    /// Partitions of each topic.
    #[arg(long, default_value_t = 8)]
    pub partitions: i32,
    /// How long a commit may take, beyond the commit interval, before its content counts as
    /// committed. Longer on a machine that is short of processors.
    #[arg(long, default_value_t = COMMIT_GRACE_MS)]
    pub commit_grace_ms: u64,
    /// How long all may take to be committed after everything is healed. A record that ends its
    /// process takes up to five starts, each with a session time-out.
    #[arg(long, default_value_t = 150)]
    pub quiet_deadline_seconds: u64,
    /// The minimum of the schedule's drain time-outs; the schedule is the same in everything else.
    /// keylane waits half a second longer for an owner to end. It gives up one that gets no CPU for
    /// that time, and whose attempt may still run.
    #[arg(long, default_value_t = 0)]
    pub least_drain_timeout_ms: u64,
    /// Where journals, logs and the schedule go; without it a directory is made, and removed where
    /// all is well.
    #[arg(long)]
    pub directory: Option<PathBuf>,
    /// Keep the directory also where all is well.
    #[arg(long)]
    pub keep: bool,
    /// Run this many seeds, from `--seed` on, one after the other on one Kafka.
    #[arg(long, default_value_t = 1)]
    pub seeds: u64,
    /// Append the lines to this file, and leave out each seed that has one there for the same
    /// protocol, commit and options. So a campaign that was interrupted goes on when it is started
    /// again.
    #[arg(long)]
    pub results: Option<PathBuf>,
    /// No second group on the same topics, which half of the seeds have.
    #[arg(long)]
    pub no_second_group: bool,
    /// No topic whose log is cut.
    #[arg(long)]
    pub no_cuts: bool,
    /// Print the schedule and stop.
    #[arg(long)]
    pub schedule: bool,
    /// Check journals and topics of a run that was kept (a directory), without running anything.
    #[arg(long)]
    pub check: Option<PathBuf>,
    /// Make a table of the lines that many runs printed (a file), without running anything.
    #[arg(long)]
    pub table: Option<PathBuf>,
}

impl Options {
    /// What changes a run, beside protocol and seed.
    pub fn in_words(&self) -> String {
        let Self {
            minutes,
            members,
            rate,
            keys,
            partitions,
            commit_grace_ms,
            ..
        } = self;
        let Self {
            quiet_deadline_seconds,
            least_drain_timeout_ms,
            no_second_group,
            no_cuts,
            ..
        } = self;
        format!(
            "minutes={minutes} members={members} rate={rate} keys={keys} partitions={partitions} \
             commit_grace_ms={commit_grace_ms} quiet_deadline_seconds={quiet_deadline_seconds} \
             least_drain_timeout_ms={least_drain_timeout_ms} no_second_group={no_second_group} no_cuts={no_cuts}"
        )
    }
}
