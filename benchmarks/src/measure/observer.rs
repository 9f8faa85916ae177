//! Does the work of a record, and watches that each is done once, in the order of its key, and one
//! at a time.
//!
//! Every arm passes every record through here, so all of them pay the same for being watched: three
//! or four uncontended atomic operations. Uncontended also where an arm has several threads: what
//! is written for each record is apart by partition, and a loop in one thread has no advantage by
//! it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

use super::histogram::Histogram;
use super::job::{Job, intended_micros, key_number};
use super::work::{Step, Work, compute};

/// What an arm reports of a record it has read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    partition: i32,
    offset: i64,
    key: Option<u64>,
    intended_micros: u64,
    attempt: u32,
}

/// A partition reports what it has done in steps of at most this many: exact counts are only needed
/// at the end.
const LONGEST_STEP: u64 = 64;

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// It is to be tried again, after [`RETRY_DELAY`](super::RETRY_DELAY).
    Failed,
}

pub(crate) struct Observer {
    work: Work,
    needed: u64,
    primers: u64,
    max: Duration,
    /// Those of a partition side by side.
    keys: Box<[Key]>,
    partitions: u64,
    /// The records done, by partition: one bit an offset.
    done_offsets: Box<[Box<[AtomicU64]>]>,
    first: OnceLock<Instant>,
    last: OnceLock<Instant>,
    cut: AtomicBool,
    /// By partition.
    done: Box<[Apart]>,
    /// Of them, in whole steps.
    reported: Apart,
    step: u64,
    primed: AtomicU64,
    duplicates: AtomicU64,
    order_violations: AtomicU64,
    overlaps: AtomicU64,
    attempts: AtomicU64,
    attempt_nanos: AtomicU64,
    pub(super) latency: Histogram,
    over: Notify,
    released: AtomicBool,
    release: Notify,
}

/// A count in cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
struct Apart(AtomicU64);

struct Key {
    running: AtomicU32,
    last: AtomicI64,
}

impl Seen {
    pub(crate) fn new(
        partition: i32,
        offset: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Self {
        Self {
            partition,
            offset,
            key: key_number(key),
            intended_micros: intended_micros(value),
            attempt: 1,
        }
    }

    pub(crate) fn attempt(self, attempt: u32) -> Self {
        Self { attempt, ..self }
    }
}

impl Observer {
    pub(crate) fn new(job: &Job) -> Self {
        let words = usize::try_from(job.records + job.primers).unwrap_or(usize::MAX) / 64 + 1;
        let partitions = u64::try_from(job.partitions).unwrap_or(1).max(1);
        let key = || Key {
            running: AtomicU32::new(0),
            last: AtomicI64::new(-1),
        };
        Self {
            work: job.work,
            needed: job.needed,
            primers: job.primers,
            max: Duration::from_secs(job.max_seconds),
            keys: (0..job.keys.next_multiple_of(partitions))
                .map(|_| key())
                .collect(),
            partitions,
            // Partitions that get nothing should take nothing, and this code cannot tell which
            // those are. So beyond some number of partitions only the first are watched for
            // duplicates.
            done_offsets: (0..job.partitions.min(64))
                .map(|_| (0..words).map(|_| AtomicU64::new(0)).collect())
                .collect(),
            first: OnceLock::new(),
            last: OnceLock::new(),
            cut: AtomicBool::new(false),
            done: (0..partitions.min(64)).map(|_| Apart::default()).collect(),
            reported: Apart::default(),
            step: (job.needed / (partitions * 16)).clamp(1, LONGEST_STEP),
            primed: AtomicU64::new(0),
            duplicates: AtomicU64::new(0),
            order_violations: AtomicU64::new(0),
            overlaps: AtomicU64::new(0),
            attempts: AtomicU64::new(0),
            attempt_nanos: AtomicU64::new(0),
            latency: Histogram::new(),
            over: Notify::new(),
            released: AtomicBool::new(false),
            release: Notify::new(),
        }
    }

    /// One attempt, where waiting is a timer of tokio's.
    pub(crate) async fn attempt(&self, seen: Seen) -> Outcome {
        let Some(step) = self.begin(seen) else {
            return Outcome::Done;
        };
        match step {
            Step::Nothing | Step::Fail => {}
            Step::Wait(wait) => {
                let began = Instant::now();
                tokio::time::sleep(wait).await;
                self.waited(began);
            }
            Step::Compute(iterations) => compute(iterations),
            Step::Hold => self.hold().await,
        }
        self.end(seen, step)
    }

    /// One attempt, where waiting blocks the thread.
    pub(crate) fn attempt_blocking(&self, seen: Seen) -> Outcome {
        let Some(step) = self.begin(seen) else {
            return Outcome::Done;
        };
        match step {
            Step::Nothing | Step::Fail | Step::Hold => {}
            Step::Wait(wait) => {
                let began = Instant::now();
                std::thread::sleep(wait);
                self.waited(began);
            }
            Step::Compute(iterations) => compute(iterations),
        }
        self.end(seen, step)
    }

    /// Whether all is done, or the run was cut off.
    pub(crate) fn is_over(&self) -> bool {
        self.cut.load(Ordering::Relaxed) || self.has_done_all()
    }

    fn has_done_all(&self) -> bool {
        let unreported = (self.step - 1) * self.done.len() as u64;
        self.reported.0.load(Ordering::SeqCst) + unreported >= self.needed
            && self.done() >= self.needed
    }

    /// Cuts the run off if it is time. For arms that block.
    pub(crate) fn look_at_clock(&self) {
        if self
            .first
            .get()
            .is_some_and(|first| first.elapsed() >= self.max)
        {
            self.cut.store(true, Ordering::Relaxed);
        }
    }

    /// Waits until all is done, or cuts the run off.
    pub(crate) async fn over(&self) {
        while !self.is_over() {
            let _ = tokio::time::timeout(Duration::from_millis(50), self.over.notified()).await;
            self.look_at_clock();
        }
    }

    /// Lets go of the records that wait for it.
    pub(crate) fn release(&self) {
        self.released.store(true, Ordering::Release);
        self.release.notify_waiters();
    }

    pub(crate) fn done(&self) -> u64 {
        self.done
            .iter()
            .map(|done| done.0.load(Ordering::SeqCst))
            .sum()
    }

    pub(super) fn first(&self) -> Option<Instant> {
        self.first.get().copied()
    }

    /// From the first record to the last, or to now where the run was cut off.
    pub(super) fn elapsed(&self) -> Duration {
        let end = self.last.get().copied().unwrap_or_else(Instant::now);
        self.first
            .get()
            .map_or(Duration::ZERO, |first| end - *first)
    }

    pub(super) fn attempt_micros(&self) -> Option<f64> {
        let attempts = self.attempts.load(Ordering::Relaxed);
        (attempts > 0)
            .then(|| self.attempt_nanos.load(Ordering::Relaxed) as f64 / attempts as f64 / 1_000.0)
    }

    /// Duplicates, order violations, overlaps.
    pub(super) fn faults(&self) -> [u64; 3] {
        [&self.duplicates, &self.order_violations, &self.overlaps]
            .map(|count| count.load(Ordering::Relaxed))
    }

    /// The step to take; none for a primer.
    fn begin(&self, seen: Seen) -> Option<Step> {
        if self.primers > 0 && seen.offset == 0 {
            self.prime();
            return None;
        }
        if self.first.get().is_none() {
            self.first.get_or_init(Instant::now);
        }
        if let Some(key) = self.key(seen) {
            if key.running.fetch_add(1, Ordering::Relaxed) > 0 {
                self.overlaps.fetch_add(1, Ordering::Relaxed);
            }
            // The same offset again is another attempt.
            if key.last.swap(seen.offset, Ordering::Relaxed) > seen.offset {
                self.order_violations.fetch_add(1, Ordering::Relaxed);
            }
        }
        Some(
            self.work
                .step(seen.partition, seen.offset, seen.key, seen.attempt),
        )
    }

    fn end(&self, seen: Seen, step: Step) -> Outcome {
        if let Some(key) = self.key(seen) {
            key.running.fetch_sub(1, Ordering::Relaxed);
        }
        if step == Step::Fail {
            return Outcome::Failed;
        }
        // The first fifth is for code and connections to warm up.
        let is_warm = || self.reported.0.load(Ordering::Relaxed) >= self.needed / 5;
        if seen.intended_micros != 0 && is_warm() && !self.work.is_stuck(seen.key) {
            self.latency
                .add(unix_micros().saturating_sub(seen.intended_micros));
        }
        if let Some(offsets) = self.done_offsets.get(seen.partition as usize) {
            let bit = 1 << (seen.offset % 64);
            let word = offsets.get(seen.offset as usize / 64);
            if word.is_some_and(|word| word.fetch_or(bit, Ordering::Relaxed) & bit != 0) {
                self.duplicates.fetch_add(1, Ordering::Relaxed);
                return Outcome::Done;
            }
        }
        if !self.work.is_stuck(seen.key) {
            self.count(seen.partition);
        }
        Outcome::Done
    }

    fn count(&self, partition: i32) {
        let done = &self.done[partition as usize % self.done.len()];
        if (done.0.fetch_add(1, Ordering::SeqCst) + 1).is_multiple_of(self.step) {
            self.reported.0.fetch_add(self.step, Ordering::SeqCst);
        }
        if self.has_done_all() && self.last.set(Instant::now()).is_ok() {
            self.over.notify_one();
        }
    }

    fn key(&self, seen: Seen) -> Option<&Key> {
        let key = seen.key.filter(|&key| key < self.keys.len() as u64)?;
        // In the order in which they were dealt out.
        let place = (key % self.partitions) * (self.keys.len() as u64 / self.partitions)
            + key / self.partitions;
        self.keys.get(usize::try_from(place).ok()?)
    }

    fn prime(&self) {
        if self.primed.fetch_add(1, Ordering::Relaxed) + 1 == self.primers {
            // The parent waits for this line before it sends.
            println!("ready");
        }
    }

    fn waited(&self, began: Instant) {
        self.attempts.fetch_add(1, Ordering::Relaxed);
        self.attempt_nanos
            .fetch_add(began.elapsed().as_nanos() as u64, Ordering::Relaxed);
    }

    async fn hold(&self) {
        let released = self.release.notified();
        tokio::pin!(released);
        released.as_mut().enable();
        if !self.released.load(Ordering::Acquire) {
            released.await;
        }
    }
}

pub(crate) fn unix_micros() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observer(work: Work) -> Observer {
        Observer::new(&Job {
            bootstrap_servers: String::new(),
            topic: String::new(),
            group: String::new(),
            partitions: 1,
            records: 10,
            keys: 2,
            primers: 0,
            needed: 10,
            work,
            in_flight_per_partition: 1,
            in_flight_total: 1,
            lanes: 1,
            pending: 0,
            max_seconds: 1,
            record_bytes: 32,
        })
    }

    fn seen(offset: i64) -> Seen {
        Seen::new(0, offset, Some(&[0; 16]), None)
    }

    #[test]
    fn records_in_order_are_faultless_and_a_step_back_or_a_second_time_is_not() {
        let observer = observer(Work::Nothing);
        for offset in [1, 2, 3] {
            observer.attempt_blocking(seen(offset));
        }
        assert_eq!(observer.faults(), [0, 0, 0]);
        observer.attempt_blocking(seen(2));
        assert_eq!(observer.faults(), [1, 1, 0]);
        assert_eq!(observer.done(), 3, "a duplicate is not progress");
    }

    #[tokio::test]
    async fn two_of_a_key_at_a_time_overlap() {
        let observer = observer(Work::Hold);
        let (first, second) = (observer.attempt(seen(1)), observer.attempt(seen(2)));
        let release = async {
            while observer.faults()[2] == 0 {
                tokio::task::yield_now().await;
            }
            observer.release();
        };
        tokio::join!(first, second, release);
        assert_eq!(observer.faults(), [0, 0, 1]);
    }

    #[test]
    fn a_failed_attempt_is_not_done_and_its_second_attempt_is_in_order() {
        let observer = observer(Work::SomeFail { one_in: 1 });
        assert_eq!(observer.attempt_blocking(seen(1)), Outcome::Failed);
        assert_eq!(observer.done(), 0);
        assert_eq!(observer.attempt_blocking(seen(1).attempt(2)), Outcome::Done);
        assert_eq!((observer.done(), observer.faults()), (1, [0, 0, 0]));
    }
}
