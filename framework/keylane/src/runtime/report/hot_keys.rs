//! The owner's part in finding hot keys: what is counted, and what is published.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use keylane_core::{Activity, HeavyKey, KeySketch, Moment, Ticket};

use super::figures::next_walk;
use crate::processing::Source;
use crate::record::{KeyHash, Record};
use crate::runtime::owned::OwnedPartition;
use crate::runtime::shared::Runtime;
use crate::status::{HotKey, HotKeys};
use crate::support::clock;

/// What others see is this old at most, while passes follow one another and the walk over the
/// pending records is short.
const TELL_EVERY: Duration = Duration::from_secs(2);
/// Keys published for each measure.
const SHOWN: usize = 10;
/// A longer plain key is cut.
const PLAIN_BYTES: usize = 256;

/// What one owner counts.
#[derive(Default)]
pub(crate) struct KeyCounts {
    records: KeySketch<KeyName>,
    time: KeySketch<KeyName>,
    waiting: KeySketch<KeyName>,
    next: Moment,
}

/// Made when a key matters; a hash of every record's key would be too dear.
#[derive(Clone)]
struct KeyName {
    hash: KeyHash,
    plain: Option<Bytes>,
}

impl KeyCounts {
    /// A record is delivered; `lane` is the hash of its key.
    #[inline]
    pub(crate) fn delivered(&mut self, runtime: &Runtime, lane: Option<u64>, record: &Record) {
        if let Some(weight) = self.records.sample(1)
            && let Some((lane, key)) = lane.zip(record.key())
        {
            self.records
                .credit(lane, weight, || KeyName::of(key, runtime));
        }
    }

    /// A record starts for the first time. One with a due time has waited for that.
    #[inline]
    pub(crate) fn waited(&mut self, runtime: &Runtime, time: Duration, record: &Record) {
        if record.due_millis().is_none() {
            count(&mut self.waiting, runtime, time, record);
        }
    }

    /// An attempt has ended, and its record is not settled yet.
    #[inline]
    pub(crate) fn attempt_ended(&mut self, owned: &OwnedPartition, ticket: Ticket, time: Duration) {
        if let Some(weight) = self.time.sample(nanos(time)) {
            let Some(pending) = owned.core.record(ticket) else {
                return;
            };
            credit(&mut self.time, &owned.runtime, weight, &pending.record);
        }
    }

    /// Lets the counts fade, and publishes the highest to the handle at intervals.
    pub(crate) fn publish(&mut self, owned: &OwnedPartition, now: Moment) {
        self.tick(now);
        if now < self.next {
            return;
        }
        let began = clock::now();
        let (runtime, counts) = (&owned.runtime, &*self);
        // What goes on counts too, or a key that is stuck for good would never show.
        let (mut time, mut waiting) = (counts.time.clone(), counts.waiting.clone());
        for pending in owned.core.pending_records() {
            let (sketch, since) = match pending.activity {
                Activity::Running { since } => (&mut time, since),
                Activity::Behind { since: Some(since) }
                | Activity::Ready { since: Some(since) } => (&mut waiting, since),
                _ => continue,
            };
            count(sketch, runtime, now.since(since), &pending.record.record);
        }
        let by_records = heaviest(&owned.source, &counts.records, |records| records);
        let (by_time, by_waiting) = (
            heaviest(&owned.source, &time, Duration::from_nanos),
            heaviest(&owned.source, &waiting, Duration::from_nanos),
        );
        owned.progress.set_hot_keys(Arc::new(HotKeys {
            by_records,
            by_time,
            by_waiting,
        }));
        self.next = next_walk(now, began, TELL_EVERY);
    }

    fn tick(&mut self, now: Moment) {
        self.records.tick(now);
        self.time.tick(now);
        self.waiting.tick(now);
    }
}

fn heaviest<A>(
    source: &Source,
    sketch: &KeySketch<KeyName>,
    amount: impl Fn(u64) -> A,
) -> Vec<HotKey<A>> {
    let total = sketch.total().max(1) as f64;
    let hot_key = |HeavyKey {
                       name,
                       at_least,
                       at_most,
                   }: HeavyKey<&KeyName>| HotKey {
        topic: source.topic.clone(),
        partition: source.partition,
        key_hash: name.hash,
        key: name.plain.clone(),
        amount: amount(at_least),
        at_most: amount(at_most),
        share: at_least as f64 / total,
    };
    sketch.top(SHOWN).into_iter().map(hot_key).collect()
}

#[inline]
fn count(sketch: &mut KeySketch<KeyName>, runtime: &Runtime, time: Duration, record: &Record) {
    if let Some(weight) = sketch.sample(nanos(time)) {
        credit(sketch, runtime, weight, record);
    }
}

fn credit(sketch: &mut KeySketch<KeyName>, runtime: &Runtime, weight: u64, record: &Record) {
    if let Some(key) = record.key() {
        sketch.credit(runtime.lane(key), weight, || KeyName::of(key, runtime));
    }
}

impl KeyName {
    fn of(key: &[u8], runtime: &Runtime) -> Self {
        // A copy: a slice of the record would keep the memory of its neighbours.
        let plain = runtime
            .plain_keys
            .then(|| Bytes::copy_from_slice(&key[..key.len().min(PLAIN_BYTES)]));
        Self {
            hash: KeyHash::of(key),
            plain,
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
