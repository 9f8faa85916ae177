//! What a record costs in the core, with the state growing to 100,000 records: flat, or logarithmic
//! where records wait.
//!
//! `cargo bench -p keylane-core`. Every benchmark keeps its state at the size in its name and moves
//! one record through it per iteration, so the times are those of one record.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use keylane_core::{
    Backoff, Delivery, Epoch, Failure, InPlace, MAX_METADATA_BYTES, Moment, Offset, OutageGuard,
    Partition, PartitionSettings, Position, RetryPolicy, SettledMap, Success, Ticket, commit_map,
};

const SIZES: [u64; 4] = [100, 1_000, 10_000, 100_000];
const BACKOFF: Duration = Duration::from_secs(100);

/// A partition, and the next offset to deliver to it.
struct Rig {
    partition: Partition<u64>,
    next: i64,
    now: Moment,
}

impl Rig {
    fn new() -> Self {
        let backoff = Backoff {
            initial: BACKOFF,
            max: BACKOFF,
            multiplier: 1.0,
            jitter: 0.0,
        };
        let settings = PartitionSettings {
            concurrency: usize::MAX,
            retry: RetryPolicy {
                in_place: InPlace::Forever,
                backoff,
                ..RetryPolicy::default()
            },
            ..PartitionSettings::default()
        };
        let start = Some(Position::new(0));
        let mut rig = Self {
            partition: Partition::new(Arc::new(settings), Epoch::new(1), start, SettledMap::new()),
            next: 0,
            now: Moment::ORIGIN,
        };
        rig.deliver(None);
        // Nothing starts before a mark is on the broker.
        assert!(rig.partition.next_start_needs_mark());
        rig.partition
            .mark_confirmed(rig.partition.wanted_mark().expect("it was requested"));
        rig.process_one();
        rig
    }

    fn deliver(&mut self, lane: Option<u64>) {
        let offset = Offset::new(self.next);
        self.next += 1;
        let delivery = Delivery {
            offset,
            lane,
            bytes: 116,
            due: None,
            rounds: 0,
            attempts: 0,
            retried_for: Duration::ZERO,
            record: 0,
        };
        black_box(self.partition.deliver(delivery, self.now));
    }

    fn start(&mut self) -> (Ticket, u32) {
        let start = self.partition.next_start().expect("a record is ready");
        (start.ticket, start.attempt)
    }

    fn succeed(&mut self, ticket: Ticket) {
        let _ = black_box(self.partition.succeed(ticket, Success::Done));
    }

    fn process_one(&mut self) {
        let (ticket, _) = self.start();
        self.succeed(ticket);
    }
}

/// The lane of a record, by its number and the number of pending records.
type KeyOf = fn(u64, u64) -> Option<u64>;

/// Lanes and ledger: n records pending, of n keys, of few, of one, or without keys; all in order.
fn pending(criterion: &mut Criterion) {
    let keys: [(&str, KeyOf); 4] = [
        ("keys-as-many", |number, size| Some(scatter(number % size))),
        ("keys-10", |number, _| Some(scatter(number % 10))),
        ("one-key", |_, _| Some(7)),
        ("null-keys", |_, _| None),
    ];
    for (name, key) in keys {
        let mut group = criterion.benchmark_group(format!("record-while-pending/{name}"));
        for size in SIZES {
            let mut rig = Rig::new();
            let mut number = 0;
            for _ in 0..size {
                rig.deliver(key(number, size));
                number += 1;
            }
            group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
                bencher.iter(|| {
                    rig.deliver(key(number, size));
                    number += 1;
                    rig.process_one();
                });
            });
        }
        group.finish();
    }
}

/// Ledger: n to 2n records settled ahead of one that is not; the pops when it is settled at last
/// are included.
fn settled_ahead(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("record-while-settled-ahead");
    for size in SIZES {
        let mut rig = Rig::new();
        let mut heads = std::collections::VecDeque::new();
        let mut until_head = 0;
        let mut step = move || {
            if until_head == 0 {
                until_head = size;
                rig.deliver(None);
                heads.push_back(rig.start().0);
                if heads.len() > 2 {
                    let head = heads.pop_front().expect("there are three");
                    rig.succeed(head);
                }
            }
            until_head -= 1;
            rig.deliver(Some(scatter(rig.next as u64)));
            rig.process_one();
        };
        (0..2 * size).for_each(|_| step());
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(&mut step)
        });
    }
    group.finish();
}

/// Timers: n records wait for their second attempt; in each iteration one begins to wait and one
/// ends.
fn waiting(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("record-while-waiting");
    for size in SIZES {
        let mut rig = Rig::new();
        let mut guard = OutageGuard::default();
        let tick = BACKOFF / u32::try_from(size).expect("sizes are small");
        let mut step = move || {
            rig.now = rig.now + tick;
            rig.partition.tick(rig.now);
            rig.deliver(Some(scatter(rig.next as u64)));
            while let Some(start) = rig.partition.next_start() {
                let (ticket, attempt) = (start.ticket, start.attempt);
                if attempt == 1 {
                    let _ = black_box(rig.partition.fail(
                        ticket,
                        Failure::Retryable.into(),
                        0,
                        rig.now,
                        &mut guard,
                    ));
                } else {
                    rig.succeed(ticket);
                }
            }
        };
        (0..2 * size).for_each(|_| step());
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(&mut step)
        });
    }
    group.finish();
}

/// Commit map: written with n settled ahead, in one run or with every other one missing. Once a
/// commit, not once a record; what fits into the metadata bounds what is written, the walk over the
/// ledger is linear.
fn commit(criterion: &mut Criterion) {
    for (name, holes) in [("one-run", false), ("every-other", true)] {
        let mut written = criterion.benchmark_group(format!("commit-map-written/{name}"));
        for size in SIZES {
            let rig = ahead(size, holes);
            written.bench_function(BenchmarkId::from_parameter(size), |bencher| {
                bencher.iter(|| black_box(rig.partition.commit_metadata(MAX_METADATA_BYTES)));
            });
        }
        written.finish();
        let mut read = criterion.benchmark_group(format!("commit-map-read/{name}"));
        for size in SIZES {
            let metadata = ahead(size, holes)
                .partition
                .commit_metadata(MAX_METADATA_BYTES);
            read.bench_function(BenchmarkId::from_parameter(size), |bencher| {
                bencher.iter(|| black_box(commit_map::decode(Position::new(0), &metadata.text)));
            });
        }
        read.finish();
    }
}

/// n settled ahead of offset 0, which is not; with holes, the odd ones are not either.
fn ahead(size: u64, holes: bool) -> Rig {
    let mut rig = Rig::new();
    let count = if holes { size * 2 } else { size };
    for _ in 0..=count {
        rig.deliver(None);
        let (ticket, _) = rig.start();
        let offset = rig.next - 1;
        if offset != 0 && !(holes && offset % 2 == 1) {
            rig.succeed(ticket);
        }
    }
    rig
}

/// A good hash of a key's number, as the shell would give (splitmix64).
fn scatter(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

criterion_group! {
    name = core;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(30);
    targets = pending, settled_ahead, waiting, commit
}
criterion_main!(core);
