//! The next transaction of a task: its copies are made, and written with its progress.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::ending::place;
use super::executor::{Executor, unreadable};
use crate::dead_letter::StoredLetter;
use crate::kafka::topics::map_partition;
use crate::producer::partition_of_key;
use crate::producer::raw::OutgoingRecord;
use crate::producer::transactions::TransactionError;
use crate::producer::write_error::WriteError;
use crate::redrive::RedriveTaskError;
use crate::redrive::ops::forms::numbers::ranges;
use crate::redrive::ops::records::{OpsKey, written};
use crate::redrive::ops::{OnRefused, TaskProgress, TaskState};
use crate::support::{clock, error_text};

/// The bytes of a transaction's copies; one copy may be larger.
const BATCH_BYTES: usize = 16 << 20;
/// A transaction has fewer copies where they take longer to make.
const BATCH_TIME: Duration = Duration::from_secs(1);
/// The most runs of letters that a task passes over: its progress names them, and is written with
/// each transaction.
const MOST_REFUSED: usize = 10_000;

/// A letter whose turn is next.
pub(super) enum Item {
    Copy(OutgoingRecord),
    Gone,
    Refused(String),
}

impl Executor {
    /// Copies these turns, or the first of them.
    pub(super) fn copy(&mut self, turns: Range<u64>) -> Result<(), RedriveTaskError> {
        let most = (turns.end - turns.start).min(self.limit.turns());
        self.fill(turns.start, most)?;
        let stops = self.record.settings.on_refused == OnRefused::Stop;
        let is_taken = |item: &&Item| !(stops && matches!(item, Item::Refused(_)));
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let count = self.items.iter().take(most).take_while(is_taken).count();
        if let (0, Some(Item::Refused(reason))) = (count, self.items.front()) {
            let reason = reason.clone();
            return self.fail(turns.start, reason);
        }
        let until = turns.start + count as u64;
        let mut progress =
            TaskProgress::new(until, self.progress.gone, self.progress.refused.clone())
                .of_run(self.progress.run);
        let mut records = Vec::with_capacity(count + 1);
        for (turn, item) in (turns.start..until).zip(&self.items) {
            match item {
                Item::Copy(record) => records.push(record),
                Item::Gone => progress.gone += 1,
                Item::Refused(_) => progress.refused.push(turn),
            }
        }
        if let Some((turn, _)) = ranges(&progress.refused).nth(MOST_REFUSED) {
            let (id, place) = (self.id.clone(), self.place(turn));
            let error = RedriveTaskError::TooManyRefused { id, place };
            self.end(TaskState::Failed, Some(error.to_string()))?;
            return Err(error);
        }
        let copies = records.len();
        let key = OpsKey::Progress(self.id.clone());
        let of_progress = self.setup.ops.record(&key, Some(written(&progress)));
        records.push(&of_progress);
        self.run.begun(until, self.now());
        match self.lock.write_in_time(&records) {
            Ok(()) => {
                self.committed(progress);
                self.limit.committed(self.record.settings.window);
                Ok(())
            }
            Err(TransactionError::Refused(refused))
                if refused.iter().all(|(index, _)| *index < copies) =>
            {
                self.refuse(refused);
                Ok(())
            }
            // The one to blame is looked for.
            Err(TransactionError::RefusedAmong(_)) if copies > 1 => {
                self.limit.refused(count as u64);
                Ok(())
            }
            Err(TransactionError::Slow(reason)) => self.slower(count as u64, reason),
            Err(error) => self.regain(error),
        }
    }

    /// The task is so far now.
    pub(super) fn committed(&mut self, progress: TaskProgress) {
        let before = std::mem::replace(&mut self.progress, progress);
        let more = self.progress.done.saturating_sub(before.done);
        let count = usize::try_from(more).map_or(self.items.len(), |it| it.min(self.items.len()));
        for (turn, item) in (before.done..).zip(self.items.drain(..count)) {
            if let Item::Refused(reason) = item {
                let place = place(&self.setup.topic, &self.order, turn);
                let task = &self.id;
                tracing::warn!(task, letter = place, reason, "a dead letter is passed over");
                self.refused.add(format_args!("{place}: {reason}"));
            }
        }
        let copies = self.progress.copies().saturating_sub(before.copies());
        self.run.copied(self.progress.done, copies);
    }

    /// These copies are not written, by their number among the copies.
    fn refuse(&mut self, refused: Vec<(usize, WriteError)>) {
        let is_copy = |item: &&mut Item| matches!(item, Item::Copy(_));
        let mut copies = self.items.iter_mut().filter(is_copy);
        let mut next = 0;
        for (index, error) in refused {
            if let Some(item) = copies.nth(index - next) {
                *item = Item::Refused(error.to_string());
            }
            next = index + 1;
        }
    }

    /// Fewer copies may be written in time.
    fn slower(&mut self, turns: u64, reason: String) -> Result<(), RedriveTaskError> {
        let patience = self.setup.connection.patience;
        if !self.limit.slow(turns, Instant::now(), patience) {
            let reason = format!(
                "{reason}; where the brokers are only slow, begin another task by `take_over`, with a smaller `window`"
            );
            return Err(RedriveTaskError::Transaction { reason });
        }
        let (task, most) = (&self.id, self.limit.turns());
        tracing::warn!(
            task,
            most,
            reason,
            "a transaction was too slow; the next one has fewer copies"
        );
        Ok(())
    }

    /// Reads letters until there are this many items, or enough for now.
    fn fill(&mut self, first: u64, count: u64) -> Result<(), RedriveTaskError> {
        let began = Instant::now();
        let bytes = |item: &Item| match item {
            Item::Copy(record) => record.bytes(),
            Item::Gone | Item::Refused(_) => 0,
        };
        let mut taken: usize = self.items.iter().map(bytes).sum();
        while (self.items.len() as u64) < count {
            let is_enough = taken >= BATCH_BYTES || began.elapsed() >= BATCH_TIME;
            if is_enough && !self.items.is_empty() {
                break;
            }
            let item = self.item(first + self.items.len() as u64)?;
            taken += bytes(&item);
            self.items.push_back(item);
        }
        Ok(())
    }

    fn item(&mut self, number: u64) -> Result<Item, RedriveTaskError> {
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        let turns = self.order.turns().get(at..).unwrap_or_default();
        let Some(turn) = turns.first().copied() else {
            return Ok(Item::Gone);
        };
        let letter = self.letters.read(number, turns);
        let letter = letter.map_err(|reason| unreadable(&self.setup.topic, reason))?;
        let Some(record) = letter else {
            return Ok(Item::Gone);
        };
        let topic = self.dead_letters.clone();
        let Some(stored) = StoredLetter::new(topic, turn.partition, record) else {
            let reason = "another record is in its place; was the topic re-created?";
            return Ok(Item::Refused(reason.to_owned()));
        };
        Ok(match self.copy_of(&stored) {
            Ok(record) => Item::Copy(record),
            Err(reason) => Item::Refused(reason),
        })
    }

    /// The partition of a letter's copy, of so many; `None` where the client chooses. It does not
    /// choose for a key, unless it was told how: the topic may get more partitions meanwhile.
    fn partition(&self, stored: &StoredLetter, partitions: i32) -> Option<i32> {
        if let Some(origin) = &stored.letter().origin {
            return Some(map_partition(origin.partition, partitions));
        }
        let is_told = self.setup.connection.settings().contains_key("partitioner");
        let key = stored.key().filter(|_| !is_told)?;
        Some(partition_of_key(key, partitions))
    }

    fn copy_of(&mut self, stored: &StoredLetter) -> Result<OutgoingRecord, String> {
        let copy = self.redrive.copy(stored);
        let mut copy = copy.map_err(|error| error.to_string())?;
        if let Some(edit) = &mut self.setup.edit {
            let edited = edit.edit(stored);
            if let Some(value) = edited.map_err(|error| {
                // It is stored with the task, which has to stay small enough to be written.
                error_text::text(format_args!("the edit failed: {error}"))
            })? {
                copy = copy.edited(value);
            }
        }
        let target = copy.topic_among(&self.targets).map_err(|_| {
            "it goes to another topic than the letters that the task began with".to_owned()
        })?;
        let partitions = self.partitions.get(&*target).copied();
        if let Some(partition) = partitions.and_then(|it| self.partition(stored, it)) {
            copy = copy.partition(partition);
        }
        copy.validate().map_err(|error| error.to_string())?;
        Ok(copy.into_record(target, &self.source, clock::wall()))
    }
}
