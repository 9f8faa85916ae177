//! What is compared: the catalogue of scenarios.

use crate::arms::Arm;
use crate::measure::Work;

/// One thing to compare the arms by.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) about: &'static str,
    pub(crate) partitions: i32,
    /// The records go to this many of the partitions.
    pub(crate) busy_partitions: i32,
    pub(crate) records: u64,
    pub(crate) keys: Keys,
    pub(crate) value_bytes: usize,
    pub(crate) work: Work,
    /// Attempts in flight per busy partition.
    pub(crate) in_flight: usize,
    /// Records per second, where they are sent while they are read; else the topic is filled first.
    pub(crate) paced: Option<u64>,
    /// Records pending at once, where their memory is measured.
    pub(crate) pending: usize,
    pub(crate) arms: Vec<Arm>,
}

/// Whose turn is whose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Keys {
    /// Null keys.
    Null,
    /// This many keys, in turn.
    Uniform(u64),
    /// Each record has a key of its own.
    Distinct,
    /// Zipf-distributed with this exponent.
    Zipf { keys: u64, exponent: f64 },
}

impl Keys {
    /// How many there are.
    pub(crate) fn count(self, records: u64) -> u64 {
        match self {
            Self::Null => 0,
            Self::Uniform(keys) | Self::Zipf { keys, .. } => keys,
            Self::Distinct => records,
        }
    }
}

const MILLI: u64 = 1_000;
const SECOND: u64 = 1_000_000;

/// All scenarios. `iterations_per_micro` is how much this machine computes in a microsecond.
pub(crate) fn catalogue(iterations_per_micro: f64) -> Vec<Scenario> {
    let compute = |micros: f64| Work::Compute {
        iterations: (iterations_per_micro * micros) as u64,
    };
    let mut all = no_ops();
    all.extend(waits());
    all.extend(random_waits());
    all.extend([
        computing(
            "compute-20us",
            "20 µs of CPU per record, 8 partitions",
            8,
            200_000,
            compute(20.0),
        ),
        computing(
            "compute-200us",
            "200 µs of CPU per record, 8 partitions",
            8,
            40_000,
            compute(200.0),
        ),
        computing(
            "compute-200us-one-partition",
            "200 µs of CPU per record, one partition",
            1,
            40_000,
            compute(200.0),
        ),
    ]);
    all.extend(trouble());
    all.extend(paced());
    all.extend(memory());
    all
}

fn base(name: impl Into<String>, about: &'static str) -> Scenario {
    Scenario {
        name: name.into(),
        about,
        partitions: 8,
        busy_partitions: 8,
        records: 1_000_000,
        keys: Keys::Uniform(1_000),
        value_bytes: 100,
        work: Work::Nothing,
        in_flight: 32,
        paced: None,
        pending: 0,
        arms: concurrent(),
    }
}

/// The arms that process records beside each other.
fn concurrent() -> Vec<Arm> {
    use Arm::{HashLanes, Keylane, ParallelConsumer, Ruststream, Semaphore};
    vec![Keylane, Semaphore, HashLanes, Ruststream, ParallelConsumer]
}

fn and(mut arms: Vec<Arm>, more: &[Arm]) -> Vec<Arm> {
    arms.extend(more);
    arms
}

fn no_ops() -> Vec<Scenario> {
    let readers = [
        Arm::Keylane,
        Arm::BareTuned,
        Arm::BareTunedCopy,
        Arm::BareBatchCopy,
    ];
    let payload = |name: &str, about, value_bytes, records| Scenario {
        value_bytes,
        records,
        arms: and(
            readers.to_vec(),
            &[Arm::HashLanes, Arm::Ruststream, Arm::JavaLoop],
        ),
        ..base(name, about)
    };
    vec![
        Scenario {
            arms: Arm::ALL.to_vec(),
            ..base("no-op", "nothing to do, 1,000 keys in turn")
        },
        Scenario {
            keys: Keys::Zipf {
                keys: 10_000,
                exponent: 1.1,
            },
            arms: and(concurrent(), &[Arm::BareTuned]),
            ..base("no-op-zipf", "nothing to do, 10,000 keys by Zipf 1.1")
        },
        Scenario {
            keys: Keys::Distinct,
            arms: and(concurrent(), &[Arm::BareTuned]),
            ..base(
                "no-op-distinct",
                "nothing to do, each record with a key of its own",
            )
        },
        Scenario {
            keys: Keys::Null,
            arms: and(concurrent(), &[Arm::BareTuned]),
            ..base("no-op-null", "nothing to do, null keys")
        },
        payload(
            "payload-1k",
            "nothing to do, values of 1 KiB",
            1024,
            300_000,
        ),
        payload(
            "payload-100k",
            "nothing to do, values of 100 KiB",
            100 * 1024,
            4_000,
        ),
    ]
}

/// Long enough for what a run loses until all partitions are being read not to count.
fn waits() -> Vec<Scenario> {
    let wait = |name: &str, about, millis, records, keys, in_flight| Scenario {
        work: Work::Wait {
            micros: millis * MILLI,
        },
        records,
        keys,
        in_flight,
        ..base(name, about)
    };
    vec![
        wait(
            "wait-10ms",
            "10 ms of waiting, 1,000 keys, 100 in flight per partition",
            10,
            1_200_000,
            Keys::Uniform(1_000),
            100,
        ),
        wait(
            "wait-100ms",
            "100 ms of waiting, 10,000 keys, 5,000 in flight in all",
            100,
            900_000,
            Keys::Uniform(10_000),
            625,
        ),
        wait(
            "wait-zipf",
            "5 ms of waiting, 10,000 keys by Zipf 1.1: the hottest key bounds the rate",
            5,
            10_000,
            Keys::Zipf {
                keys: 10_000,
                exponent: 1.1,
            },
            100,
        ),
    ]
}

/// Confluent's published workload.
fn random_waits() -> Vec<Scenario> {
    let of = |keys: u64| Scenario {
        partitions: 1,
        busy_partitions: 1,
        records: 10_000,
        keys: Keys::Uniform(keys),
        work: Work::RandomWait { max_millis: 5 },
        in_flight: 100,
        ..base(
            format!("random-wait-{keys}-keys"),
            "0 to 5 ms of waiting, one partition, 100 in flight: Confluent's published workload",
        )
    };
    [1, 10, 100, 1_000, 10_000].map(of).to_vec()
}

fn computing(
    name: &str,
    about: &'static str,
    partitions: i32,
    records: u64,
    work: Work,
) -> Scenario {
    Scenario {
        partitions,
        busy_partitions: partitions,
        records,
        work,
        arms: and(concurrent(), &[Arm::BareTuned]),
        ..base(name, about)
    }
}

fn trouble() -> Vec<Scenario> {
    let fail = |name: &str, about, one_in| Scenario {
        work: Work::SomeFail { one_in },
        records: 300_000,
        arms: vec![
            Arm::Keylane,
            Arm::Semaphore,
            Arm::HashLanes,
            Arm::ParallelConsumer,
        ],
        ..base(name, about)
    };
    vec![
        Scenario {
            work: Work::SomeSlow {
                one_in: 100,
                slow_micros: 500 * MILLI,
                micros: MILLI,
            },
            records: 50_000,
            in_flight: 100,
            ..base(
                "one-percent-slow",
                "1 ms of waiting, 500 ms for 1 % of the records",
            )
        },
        fail(
            "retry-1-percent",
            "the first attempt of 1 % of the records fails, the second comes 10 ms later",
            100,
        ),
        fail(
            "retry-10-percent",
            "the first attempt of 10 % of the records fails, the second comes 10 ms later",
            10,
        ),
    ]
}

fn paced() -> Vec<Scenario> {
    let stuck = |name: &str, about, stuck_micros| Scenario {
        work: Work::StuckKey {
            stuck_micros,
            micros: 2 * MILLI,
        },
        records: 50_000,
        in_flight: 100,
        paced: Some(5_000),
        ..base(name, about)
    };
    let in_all = |name: &str, about, stuck_micros| Scenario {
        work: Work::StuckKey {
            stuck_micros,
            micros: MILLI,
        },
        in_flight: 2,
        arms: vec![Arm::Keylane, Arm::KeylanePool, Arm::HashLanes],
        ..stuck(name, about, stuck_micros)
    };
    vec![
        Scenario {
            records: 200_000,
            paced: Some(20_000),
            arms: vec![
                Arm::Keylane,
                Arm::BareTuned,
                Arm::BareBatch,
                Arm::HashLanes,
                Arm::Ruststream,
                Arm::JavaLoop,
                Arm::ParallelConsumer,
            ],
            ..base(
                "paced",
                "nothing to do, 20,000 records/s: latency from the moment each was meant to be sent",
            )
        },
        stuck(
            "stuck-key-without",
            "2 ms of waiting, 5,000 records/s, no key stuck: to compare with",
            2 * MILLI,
        ),
        stuck(
            "stuck-key",
            "the same, and each record of one key takes 5 s: latency of the other keys",
            5 * SECOND,
        ),
        in_all(
            "stuck-key-of-16-without",
            "1 ms of waiting, 16 attempts in all or 2 per partition, 5,000 records/s, no key stuck: to compare with",
            MILLI,
        ),
        in_all(
            "stuck-key-of-16",
            "the same, and each record of one key takes 5 s: latency of the other keys",
            5 * SECOND,
        ),
    ]
}

fn memory() -> Vec<Scenario> {
    let held = |name: &str, records: usize| Scenario {
        work: Work::Hold,
        records: records as u64,
        pending: records,
        keys: Keys::Uniform(10_000),
        arms: vec![Arm::Keylane, Arm::Semaphore],
        ..base(
            name,
            "all records pending at once: the difference of two sizes is the memory of a record",
        )
    };
    vec![
        Scenario {
            partitions: 1_000,
            busy_partitions: 10,
            records: 10_000,
            paced: Some(1_000),
            arms: vec![Arm::Keylane, Arm::BareTuned, Arm::HashLanes, Arm::JavaLoop],
            ..base(
                "mostly-idle",
                "1,000 partitions, 1,000 records/s on ten of them",
            )
        },
        held("pending-100k", 100_000),
        held("pending-200k", 200_000),
    ]
}
