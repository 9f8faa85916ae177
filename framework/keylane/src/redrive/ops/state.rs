//! The state that the records of an operations topic describe together. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use bytes::Bytes;
use keylane_core::redrive::{Order, OrderError};
use serde::de::DeserializeOwned;

use super::Handled;
use super::lost::Lost;
use super::records::{
    CancelRequest, OpsKey, Place, Resolution, TaskProgress, TaskRecord, TaskState, Unread, read,
};

/// The bounds of a state. What is beyond them is dropped, and counted.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    tasks: usize,
    /// The bytes of the values of tasks, orders aside.
    task_bytes: usize,
    resolutions: usize,
    resolution_bytes: usize,
    order_bytes: usize,
    newer: usize,
}

const BOUNDS: Bounds = Bounds {
    tasks: 10_000,
    task_bytes: 128 << 20,
    resolutions: 100_000,
    resolution_bytes: 64 << 20,
    // About ten million letters.
    order_bytes: 32 << 20,
    newer: 100,
};

/// Of a member, which keeps the state for as long as it runs.
const OF_MEMBER: Bounds = Bounds {
    tasks: 10_000,
    task_bytes: 16 << 20,
    resolutions: 100_000,
    resolution_bytes: 16 << 20,
    // One to two million letters. Where each is a range of its own, working them out takes forty
    // times as much for a moment.
    order_bytes: 4 << 20,
    newer: 1,
};

/// Ranges that are merged together, at least: each time costs a look at all.
const RANGES_AT_ONCE: usize = 65_536;

/// What the operations topic of a group says: its tasks, and the letters that were resolved.
///
/// # Bounds
/// 10,000 tasks of 128 MiB, 100,000 resolved ranges of 64 MiB, and 32 MiB of orders: which letters a
/// task has copied. Beyond that the oldest are dropped: see [`dropped`](Self::dropped). No redrive
/// begins on a dead-letter topic of which something was dropped, unless it copies all letters
/// [`again`](crate::redrive::RedriveTask::again).
#[derive(Clone, Debug, Default)]
pub struct OpsState {
    tasks: BTreeMap<String, Entry>,
    resolved: BTreeMap<Place, Resolution>,
    newer: BTreeSet<String>,
    unreadable: u64,
    dropped: Dropped,
    lost: Lost,
    task_bytes: usize,
    resolution_bytes: usize,
    order_bytes: usize,
    /// The ids of the logs that dead-letter topics have now.
    logs: BTreeMap<String, String>,
}

/// How much of a state was dropped, because it exceeds the bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dropped {
    /// Whole tasks: the letters that they have copied count as open.
    pub tasks: u64,
    /// Orders of tasks: the letters that these tasks have copied count as open.
    pub orders: u64,
    /// Resolved ranges, which count as open.
    pub resolutions: u64,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    record: Option<TaskRecord>,
    progress: Option<TaskProgress>,
    cancel: Option<CancelRequest>,
    chunks: BTreeMap<u32, Bytes>,
    /// The bytes of the values of record, progress and cancel.
    bytes: [usize; 3],
}

/// A task as the operations topic has it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct TaskStatus<'a> {
    /// Its name.
    pub id: &'a str,
    /// The task's record: how it was started, and how it ended.
    pub record: &'a TaskRecord,
    /// How far the task is.
    pub progress: Option<&'a TaskProgress>,
    /// The request to end the task.
    pub cancel: Option<&'a CancelRequest>,
}

impl OpsState {
    /// The tasks, by name.
    pub fn tasks(&self) -> impl Iterator<Item = TaskStatus<'_>> {
        self.tasks.iter().filter_map(|(id, entry)| entry.status(id))
    }

    /// One task.
    pub fn task(&self, id: &str) -> Option<TaskStatus<'_>> {
        let (id, entry) = self.tasks.get_key_value(id)?;
        entry.status(id)
    }

    /// The task on this dead-letter topic that runs, or that was left when its process ended.
    pub fn running(&self, topic: &str) -> Option<TaskStatus<'_>> {
        let is_it =
            |it: &TaskStatus<'_>| it.record.topic == topic && it.record.state == TaskState::Running;
        self.tasks().find(is_it)
    }

    /// The resolved ranges of this dead-letter topic as it is now: partition, first and last offset,
    /// and what was said about it.
    pub fn resolved<'a>(
        &'a self,
        topic: &'a str,
    ) -> impl Iterator<Item = (i32, RangeInclusive<i64>, &'a Resolution)> {
        let of_topic = (self.resolved.iter())
            .filter(move |it| it.0.topic == topic && self.is_log(topic, it.1.log.as_deref()));
        of_topic.map(|(place, it)| (place.partition, place.first..=place.last, it))
    }

    /// Keys of records that a newer version of keylane wrote, the first 100 of them. They were not
    /// read.
    pub fn newer(&self) -> impl Iterator<Item = &str> {
        self.newer.iter().map(String::as_str)
    }

    /// How many records could not be read.
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// How much was dropped, because it exceeds the bounds.
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// The letters of this dead-letter topic that need nothing more: those that were resolved, and
    /// those that a task has copied. A letter that a task passed over is not among them. An order
    /// that cannot be read counts as not copied. What was said about a topic that was deleted and
    /// re-created since does not count.
    pub fn handled(&self, topic: &str) -> Handled {
        self.handled_and_unread(topic).0
    }

    /// Also the first task whose order cannot be read, and why.
    fn handled_and_unread(&self, topic: &str) -> (Handled, Option<(&str, OrderError)>) {
        let (mut handled, mut ranges, mut unread) = (Handled::default(), Vec::new(), None);
        for (id, entry) in &self.tasks {
            let is_of_topic =
                |it: &TaskRecord| it.topic == topic && self.is_log(topic, it.log.as_deref());
            let of_topic = entry.record.as_ref().is_some_and(is_of_topic);
            let Some(progress) = entry.progress.as_ref().filter(|_| of_topic) else {
                continue;
            };
            let order = match self.order(id) {
                Ok(order) if order.len() >= progress.done => order,
                damaged => {
                    let error = damaged.err().unwrap_or(OrderError::Gap);
                    tracing::warn!(task = id, %error, "the order of a redrive cannot be read");
                    unread.get_or_insert((&**id, error));
                    continue;
                }
            };
            let refused: BTreeSet<u64> = progress.refused.iter().copied().collect();
            let turns = (0..progress.done).zip(order.turns());
            let copied = turns.filter(|(number, _)| !refused.contains(number));
            let copied = copied.map(|(_, turn)| {
                let offset = turn.offset.get();
                (turn.partition, offset, offset)
            });
            // The letters of one task are mostly few ranges.
            let of_task: Handled = copied.collect();
            ranges.extend(of_task.ranges());
            if ranges.len() > RANGES_AT_ONCE.max(handled.ranges().count()) {
                handled.extend(ranges.drain(..));
            }
        }
        let resolved = self.resolved(topic);
        let resolved =
            resolved.map(|(partition, range, _)| (partition, *range.start(), *range.end()));
        handled.extend(ranges.into_iter().chain(resolved));
        (handled, unread)
    }

    /// As [`handled`](Self::handled); an error where it is not known of all letters.
    pub(crate) fn known_handled(&self, topic: &str) -> Result<Handled, String> {
        if self.lost.is_of(topic, |log| self.is_log(topic, log)) {
            return Err(
                "it has more tasks, orders or resolved ranges than are read, and the oldest were left out; delete by \
                 tombstones the records of tasks whose dead letters are gone"
                    .to_owned(),
            );
        }
        match self.handled_and_unread(topic) {
            (handled, None) => Ok(handled),
            (_, Some((id, error))) => Err(format!(
                "which letters the redrive {id} has copied cannot be read, because {error}"
            )),
        }
    }

    /// The topics that it is about.
    pub(crate) fn topics(&self) -> BTreeSet<&str> {
        let of_tasks = self.tasks().map(|task| &*task.record.topic);
        let resolved = self.resolved.keys().map(|place| &*place.topic);
        of_tasks.chain(resolved).collect()
    }

    pub(crate) fn set_logs(&mut self, logs: BTreeMap<String, String>) {
        self.logs = logs;
    }

    /// The id of the log that a topic has now, where a broker has named it.
    pub(crate) fn log(&self, topic: &str) -> Option<&str> {
        self.logs.get(topic).map(String::as_str)
    }

    /// Whether what was said about this log is about the one that is there. Only two names that
    /// differ say that it is not.
    pub(crate) fn is_log(&self, topic: &str, log: Option<&str>) -> bool {
        let there = self.log(topic);
        there.is_none() || log.is_none() || log == there
    }

    /// The order of a task, as far as it was stored.
    pub(crate) fn order(&self, id: &str) -> Result<Order, OrderError> {
        let Some(entry) = self.tasks.get(id) else {
            return Ok(Order::default());
        };
        Order::read(entry.chunks.values().map(|chunk| &chunk[..]))
    }

    /// The next record of the topic.
    pub(crate) fn apply(&mut self, key: Option<&[u8]>, value: Option<Bytes>) {
        self.apply_within(BOUNDS, key, value);
    }

    /// The same, of what a member keeps.
    pub(super) fn apply_of_member(&mut self, key: Option<&[u8]>, value: Option<Bytes>) {
        self.apply_within(OF_MEMBER, key, value);
    }

    fn apply_within(&mut self, bounds: Bounds, key: Option<&[u8]>, value: Option<Bytes>) {
        // Of another program, or a later version: it changes nothing that this one has.
        let Some(key) = key.and_then(OpsKey::read) else {
            self.unreadable += 1;
            return;
        };
        let text = key.text();
        let mut take = Take {
            newer: &mut self.newer,
            most: bounds.newer,
            unreadable: &mut self.unreadable,
            key: &text,
            value: value.as_deref(),
        };
        let bytes = value.as_ref().map_or(0, Bytes::len);
        let id = key.task().map(str::to_owned);
        match key {
            OpsKey::Task(id) => {
                let Some(record) = take.read() else { return };
                if value.is_none() {
                    self.lost.tasks.remove(&id);
                }
                self.entry(id, 0, bytes).record = record;
            }
            OpsKey::Progress(id) => {
                let Some(progress) = take.read() else { return };
                self.entry(id, 1, bytes).progress = progress;
            }
            OpsKey::Cancel(id) => {
                let cancel = value.as_deref().map(CancelRequest::read);
                self.entry(id, 2, bytes).cancel = cancel;
            }
            OpsKey::Order(id, number) => {
                self.newer.remove(&text);
                if value.as_deref().is_some_and(Order::is_newer) && self.newer.len() < bounds.newer
                {
                    self.newer.insert(text);
                }
                let entry = self.tasks.entry(id).or_default();
                let before = match value {
                    Some(chunk) => entry.chunks.insert(number, chunk),
                    None => entry.chunks.remove(&number),
                };
                self.order_bytes += bytes;
                self.order_bytes -= before.map_or(0, |chunk| chunk.len());
            }
            OpsKey::Resolved(place) => {
                let Some(resolution) = take.read::<Resolution>() else {
                    return;
                };
                self.unresolve(&place);
                if let Some(resolution) = resolution.filter(|it| !it.taken_back) {
                    self.resolution_bytes += size(&place, &resolution);
                    self.resolved.insert(place, resolution);
                }
            }
        }
        if let Some(id) = id.filter(|id| self.tasks.get(id).is_some_and(Entry::is_empty)) {
            self.tasks.remove(&id);
        }
        self.keep_within(bounds);
    }

    fn entry(&mut self, id: String, part: usize, bytes: usize) -> &mut Entry {
        let entry = self.tasks.entry(id).or_default();
        self.task_bytes += bytes;
        self.task_bytes -= std::mem::replace(&mut entry.bytes[part], bytes);
        entry
    }

    fn unresolve(&mut self, place: &Place) {
        if let Some(resolution) = self.resolved.remove(place) {
            self.resolution_bytes -= size(place, &resolution);
        }
    }

    fn keep_within(&mut self, bounds: Bounds) {
        let is_beyond =
            |count, bytes| count > bounds.resolutions || bytes > bounds.resolution_bytes;
        if is_beyond(self.resolved.len(), self.resolution_bytes) {
            self.drop_resolutions(bounds);
        }
        while self.order_bytes > bounds.order_bytes {
            let Some(id) = self.oldest(|entry| !entry.chunks.is_empty()) else {
                break;
            };
            self.drop_order(&id);
            self.dropped.orders += 1;
        }
        while self.tasks.len() > bounds.tasks || self.task_bytes > bounds.task_bytes {
            let Some(id) = self.oldest(|_| true) else {
                break;
            };
            self.drop_order(&id);
            if let Some(entry) = self.tasks.remove(&id) {
                self.task_bytes -= entry.bytes.iter().sum::<usize>();
            }
            self.dropped.tasks += 1;
        }
    }

    /// Many at once: each time, they are sorted by age.
    fn drop_resolutions(&mut self, bounds: Bounds) {
        let by_age = self
            .resolved
            .iter()
            .map(|(place, it)| (it.at, place.clone()));
        let mut by_age: Vec<_> = by_age.collect();
        by_age.sort_unstable();
        let (count, bytes) = (
            bounds.resolutions * 9 / 10,
            bounds.resolution_bytes * 9 / 10,
        );
        for (_, place) in by_age {
            if self.resolved.len() <= count && self.resolution_bytes <= bytes {
                break;
            }
            self.unresolve(&place);
            self.lost.resolutions(place.topic);
            self.dropped.resolutions += 1;
        }
    }

    fn drop_order(&mut self, id: &str) {
        if let Some(entry) = self.tasks.get_mut(id) {
            let chunks = std::mem::take(&mut entry.chunks);
            self.order_bytes -= chunks.values().map(Bytes::len).sum::<usize>();
            let record = entry.record.as_ref();
            self.lost
                .task(id, record.map(|it| (it.topic.clone(), it.log.clone())));
        }
    }

    /// The oldest task. A task that runs comes last, and so does one whose start was not read: it is
    /// the newest.
    fn oldest(&self, has: impl Fn(&Entry) -> bool) -> Option<String> {
        let entries = self.tasks.iter().filter(|(_, entry)| has(entry));
        let age = |entry: &Entry| {
            let record = entry.record.as_ref();
            let is_running = record.is_none_or(|it| it.state == TaskState::Running);
            (is_running, record.map(|it| it.started))
        };
        let oldest = entries.min_by_key(|(_, entry)| age(entry));
        oldest.map(|(id, _)| id.clone())
    }
}

fn size(place: &Place, resolution: &Resolution) -> usize {
    let log = resolution.log.as_ref().map_or(0, String::len);
    place.topic.len() + log + resolution.who.len() + resolution.why.len()
}

impl Entry {
    fn is_empty(&self) -> bool {
        let Self {
            record,
            progress,
            cancel,
            chunks,
            ..
        } = self;
        record.is_none() && progress.is_none() && cancel.is_none() && chunks.is_empty()
    }

    fn status<'a>(&'a self, id: &'a str) -> Option<TaskStatus<'a>> {
        Some(TaskStatus {
            id,
            record: self.record.as_ref()?,
            progress: self.progress.as_ref(),
            cancel: self.cancel.as_ref(),
        })
    }
}

/// Reads a value, and counts what cannot be read.
struct Take<'a> {
    newer: &'a mut BTreeSet<String>,
    most: usize,
    unreadable: &'a mut u64,
    key: &'a str,
    value: Option<&'a [u8]>,
}

impl Take<'_> {
    /// A tombstone is `Some(None)`.
    fn read<T: DeserializeOwned>(&mut self) -> Option<Option<T>> {
        self.newer.remove(self.key);
        match self.value.map(read).transpose() {
            Ok(value) => return Some(value),
            Err(Unread::Newer) if self.newer.len() < self.most => {
                self.newer.insert(self.key.to_owned());
            }
            Err(_) => *self.unreadable += 1,
        }
        None
    }
}

#[cfg(test)]
mod tests;
