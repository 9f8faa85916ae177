//! The ways to read a topic that are compared.

mod bare;
mod keylane;

use clap::Args;

use crate::Failure;
use crate::sample::Sample;

/// What an arm has to do.
#[derive(Args, Clone, Debug)]
pub(crate) struct Job {
    #[arg(long)]
    pub(crate) bootstrap_servers: String,
    #[arg(long)]
    pub(crate) topic: String,
    #[arg(long)]
    pub(crate) group: String,
    #[arg(long)]
    pub(crate) job_records: u64,
    #[arg(long, default_value_t = 32)]
    pub(crate) job_concurrency: usize,
    #[arg(long, default_value_t = 0)]
    pub(crate) job_wait_millis: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arm {
    /// keylane, key order on.
    Keylane,
    /// `BaseConsumer::poll` with librdkafka's defaults, records looked at and dropped.
    BareDefault,
    /// The same with keylane's fetch settings.
    BareTuned,
    /// The same, and each record copied out as a consumer that hands it on has to.
    BareTunedCopy,
}

impl Arm {
    pub(crate) const ALL: [Self; 4] = [Self::Keylane, Self::BareDefault, Self::BareTuned, Self::BareTunedCopy];

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|arm| arm.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Keylane => "keylane",
            Self::BareDefault => "bare-default",
            Self::BareTuned => "bare-tuned",
            Self::BareTunedCopy => "bare-tuned-copy",
        }
    }

    pub(crate) fn in_flight(self) -> &'static str {
        match self {
            Self::Keylane => "as set, per partition",
            _ => "1",
        }
    }

    pub(crate) fn run(self, job: &Job) -> Result<Sample, Failure> {
        match self {
            Self::Keylane => keylane::run(job),
            Self::BareDefault => bare::run(job, bare::Settings::Default, bare::Copy::No),
            Self::BareTuned => bare::run(job, bare::Settings::Tuned, bare::Copy::No),
            Self::BareTunedCopy => bare::run(job, bare::Settings::Tuned, bare::Copy::Yes),
        }
    }
}
