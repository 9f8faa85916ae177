//! The ways to read a topic that are compared.

mod bare;
mod batch;
mod committed;
mod hand_written;
mod hash_lanes;
mod keylane;
mod semaphore;
mod settings;
mod watermarks;

use crate::measure::{Failure, Job, Sample};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arm {
    /// keylane, key order on.
    Keylane,
    /// The same with the Prometheus endpoint on, scraped once a second.
    KeylaneMetrics,
    /// The same as the first with a subscriber that takes the spans of attempts and writes nothing.
    KeylaneTraced,
    /// The same as the first, reading through rdkafka's `poll`.
    KeylanePolled,
    /// The same as the first with a limit over all partitions, `max_in_flight`.
    KeylanePool,
    /// `BaseConsumer::poll` with librdkafka's defaults, one record at a time.
    BareDefault,
    /// The same with keylane's fetch settings.
    BareTuned,
    /// The same, and each record copied out as a consumer that hands it on has to.
    BareTunedCopy,
    /// Batches from a fetch queue, keylane's settings, one record at a time.
    BareBatch,
    /// The same, and each record copied out.
    BareBatchCopy,
    /// Hand-written: a semaphore, a task for each record, a watermark. No key order.
    Semaphore,
    /// Hand-written: keys hashed to sequential workers, a watermark.
    HashLanes,
    /// ruststream-rdkafka with keyed workers.
    Ruststream,
    /// Java's `KafkaConsumer` in a plain loop.
    JavaLoop,
    /// Confluent's Parallel Consumer, ordered by key.
    ParallelConsumer,
}

/// What an arm runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// This program, in a process of its own.
    Here,
    /// The program in `benchmarks/ruststream`.
    Ruststream,
    /// The program in `benchmarks/java`.
    Java,
}

impl Arm {
    pub(crate) const ALL: [Self; 15] = [
        Self::Keylane,
        Self::KeylaneMetrics,
        Self::KeylaneTraced,
        Self::KeylanePolled,
        Self::KeylanePool,
        Self::BareDefault,
        Self::BareTuned,
        Self::BareTunedCopy,
        Self::BareBatch,
        Self::BareBatchCopy,
        Self::Semaphore,
        Self::HashLanes,
        Self::Ruststream,
        Self::JavaLoop,
        Self::ParallelConsumer,
    ];

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|arm| arm.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Keylane => "keylane",
            Self::KeylaneMetrics => "keylane-metrics",
            Self::KeylaneTraced => "keylane-traced",
            Self::KeylanePolled => "keylane-polled",
            Self::KeylanePool => "keylane-pool",
            Self::BareDefault => "bare-default",
            Self::BareTuned => "bare-tuned",
            Self::BareTunedCopy => "bare-tuned-copy",
            Self::BareBatch => "bare-batch",
            Self::BareBatchCopy => "bare-batch-copy",
            Self::Semaphore => "semaphore",
            Self::HashLanes => "hash-lanes",
            Self::Ruststream => "ruststream",
            Self::JavaLoop => "java-loop",
            Self::ParallelConsumer => "parallel-consumer",
        }
    }

    pub(crate) fn home(self) -> Home {
        match self {
            Self::Ruststream => Home::Ruststream,
            Self::JavaLoop | Self::ParallelConsumer => Home::Java,
            _ => Home::Here,
        }
    }

    /// How many attempts can be in flight in one partition and in all: what the bound of a run
    /// follows from.
    pub(crate) fn in_flight(self, job: &Job) -> (usize, usize) {
        match self {
            Self::Keylane | Self::KeylaneMetrics | Self::KeylaneTraced | Self::KeylanePolled => (
                job.in_flight_per_partition,
                job.in_flight_per_partition * job.partitions as usize,
            ),
            Self::Semaphore | Self::KeylanePool => (job.in_flight_total, job.in_flight_total),
            Self::HashLanes | Self::Ruststream => (job.lanes, job.lanes),
            Self::ParallelConsumer => {
                let threads = job.in_flight_total.min(crate::peers::java::MAX_THREADS);
                (threads, threads)
            }
            _ => (1, 1),
        }
    }

    /// Runs an arm whose home is here.
    pub(crate) fn run(self, job: &Job) -> Result<Sample, Failure> {
        use bare::Settings;
        match self {
            Self::Keylane => keylane::run(job, keylane::Variant::Plain),
            Self::KeylaneMetrics => keylane::run(job, keylane::Variant::Metrics),
            Self::KeylaneTraced => keylane::run(job, keylane::Variant::Traced),
            Self::KeylanePolled => keylane::run(job, keylane::Variant::Polled),
            Self::KeylanePool => keylane::run(job, keylane::Variant::Pool),
            Self::BareDefault => bare::run(job, Settings::Default, Copy::No),
            Self::BareTuned => bare::run(job, Settings::Tuned, Copy::No),
            Self::BareTunedCopy => bare::run(job, Settings::Tuned, Copy::Yes),
            Self::BareBatch => batch::run(job, Copy::No),
            Self::BareBatchCopy => batch::run(job, Copy::Yes),
            Self::Semaphore => semaphore::run(job),
            Self::HashLanes => hash_lanes::run(job),
            Self::Ruststream | Self::JavaLoop | Self::ParallelConsumer => {
                Err(format!("{} is another program", self.name()).into())
            }
        }
    }
}

/// Whether a bare loop copies each record out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Copy {
    No,
    Yes,
}

impl Copy {
    fn of(self, key: Option<&[u8]>, value: Option<&[u8]>) {
        if self == Self::Yes {
            let (key, value) = (key.unwrap_or_default(), value.unwrap_or_default());
            let mut bytes = Vec::with_capacity(key.len() + value.len());
            bytes.extend_from_slice(key);
            bytes.extend_from_slice(value);
            std::hint::black_box(bytes::Bytes::from(bytes));
        } else {
            std::hint::black_box((key, value));
        }
    }
}
