//! Partitions without a position to be read from: where they begin is asked for, committed, and
//! only then read. And those whose position is to be confirmed: was the log cut below it?
//!
//! [`Beginning`] says what comes next; this carries it out. Fetching is paused from before the
//! assignment to the end of the way, so nothing starts in the partition. Nothing here waits for a
//! broker for long.

use std::time::{Duration, Instant};

use keylane_core::member::{ClientPosition, CommitPoint, OPENING};
use keylane_core::{
    Beginning, Evidence, LogRange, MAX_METADATA_BYTES, Offset as RecordOffset, PassedOver,
    Position, Reset, Step, commit_map,
};

use super::assigned::Assigned;
use super::assignment::Assignment;
use crate::kafka::{
    Cached, CachedRange, CommittedPoint, NewPartition, PositionToSet, compare_logs, trouble,
};
use crate::polling::failures::without_position;
use crate::polling::thread::PollLoop;

/// How long after a question the next one follows that has no answer yet.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// The same for a position that the client does not take yet: it takes none before it has started
/// the partition, usually within milliseconds. Twice as long each time, up to the former.
const SEEK_AGAIN: Duration = Duration::from_millis(5);
/// The same for what is committed: the question keeps the polling thread, for a tenth of its time
/// at most.
const ASK_COMMITTED_AGAIN: Duration = Duration::from_secs(5);
/// For how long, at first.
const COMMITTED_WITHIN: Duration = Duration::from_millis(500);
/// Twice as long each time, up to this: a coordinator that always takes longer would never be
/// heard.
const COMMITTED_WITHIN_AT_MOST: Duration = Duration::from_secs(8);
/// How long the client may take to set positions. It answers at once.
const SEEK_WITHIN: Duration = Duration::from_millis(500);
/// When a partition that still has no position is reported, and how often from then on.
const REPORT_EVERY: Duration = Duration::from_secs(30);

/// When the questions were asked last, over all partitions.
#[derive(Default)]
pub(crate) struct Asked {
    range: Option<Instant>,
    committed: Option<Instant>,
    /// How many times in a row there was no answer to that.
    unheard: u32,
    seek: Seek,
    reported: Option<Instant>,
}

/// When positions are set next.
#[derive(Default)]
struct Seek {
    asked: Option<Instant>,
    again_after: Duration,
}

impl Seek {
    /// How long that is from now on.
    fn due_in(&self) -> Duration {
        self.asked.map_or(Duration::ZERO, |asked| {
            self.again_after.saturating_sub(asked.elapsed())
        })
    }

    /// They were set, all or only some.
    fn done(&mut self, all: bool) {
        *self = match all {
            true => Self::default(),
            false => Self {
                asked: Some(Instant::now()),
                again_after: (self.again_after * 2).clamp(SEEK_AGAIN, ASK_AGAIN),
            },
        };
    }
}

impl Asked {
    /// New partitions: those are tried at once.
    pub(crate) fn hurry(&mut self) {
        self.seek = Seek::default();
    }

    fn is_due(asked: &mut Option<Instant>, interval: Duration) -> bool {
        let is_due = asked.is_none_or(|asked| asked.elapsed() >= interval);
        if is_due {
            *asked = Some(Instant::now());
        }
        is_due
    }
}

impl Assigned {
    /// What the next epoch of this partition begins with.
    fn replacement(&self) -> NewPartition {
        NewPartition {
            topic: self.topic.to_string(),
            partition: self.partition,
            committed: None,
            log: self.identity.log(),
            left: None,
            stale_end: self.stale_end,
            beginning: self.beginning,
        }
    }

    /// The offset that is read next, as far as it is known.
    pub(crate) fn expected(&self) -> Option<i64> {
        self.next_offset.or(self.start)
    }

    /// Looks at a record that is not the one behind the last. `false` where it is to be left out.
    #[cold]
    pub(crate) fn is_due(&mut self, cached: Cached<'_>, offset: i64, print: u64) -> bool {
        let Some(expected) = self.expected() else {
            return true;
        };
        if offset < expected {
            if self.recent.contains(offset, print) {
                return false;
            }
            // No repetition: the log was cut, or the topic made anew. What was settled there says
            // nothing about these records. Where the start was confirmed by its leader epoch the
            // first one is where the log was cut: all from there on is new, also with `latest`.
            let is_the_cut = self.next_offset.is_none() && self.asked_by_epoch.is_some();
            if self.reset == Reset::Latest && !is_the_cut {
                // What was taken in before is not read again; it is handed over.
                self.report_cut_with_latest(expected, offset);
                self.search(Beginning::went_back(self.reset, Position::new(expected)));
                return false;
            }
            // A new epoch begins with them; the first one of this epoch is judged by its owner.
            match self.next_offset {
                Some(_) => self.rewind(offset),
                None => self.report_cut(expected, offset),
            }
            return true;
        }
        let first = cached
            .range(&self.topic_c, self.partition)
            .first
            .map(Position::new);
        let position = Position::new(expected);
        let passed_over =
            first.and_then(|first| PassedOver::before(RecordOffset::new(offset), position, first));
        match passed_over {
            // The client went to the first record that is there; it is to be the end.
            Some(_) if self.reset == Reset::Latest => {
                self.search(Beginning::passed_over(self.reset, position));
                false
            }
            Some(passed_over) => {
                self.report_passed_over(passed_over);
                true
            }
            None => true,
        }
    }

    /// Looks whether the log begins above the next record although none says so: it may be empty.
    pub(crate) fn look_for_emptied_log(&mut self, range: &CachedRange) {
        let is_reading =
            !self.fetch_paused && self.beginning.is_none() && self.anew.is_none() && !self.revoking;
        // A new epoch would drop what is pending.
        let is_idle = is_reading
            && self.reset != Reset::Error
            && self.pending_records() == 0
            && self.knows_log_end(range.end);
        let expected = self.expected().filter(|_| is_idle).map(Position::new);
        let now = self.now();
        if let Some(expected) = self
            .emptied
            .look(expected, range.first.map(Position::new), now)
        {
            self.search(Beginning::passed_over(self.reset, expected));
        }
    }

    fn search(&mut self, beginning: Beginning) {
        tracing::info!(
            topic = %self.topic, partition = self.partition, expected = self.expected(),
            "the next position is outside of the log; looking for where to read on"
        );
        self.beginning = Some(beginning);
        self.searching_since = Instant::now();
    }

    fn step(&self) -> Option<Step> {
        self.beginning.as_ref().map(Beginning::step)
    }

    /// Takes in what the log holds, for those who asked for it.
    pub(crate) fn look_at_range(&mut self, range: LogRange) {
        self.withheld.answered(range.end);
        // What is pending may still be settled; a new epoch would drop it.
        if self.pending_records() > 0 {
            return;
        }
        if let Some(passed_over) = self
            .beginning
            .as_mut()
            .and_then(|beginning| beginning.range(range))
        {
            self.report_passed_over(passed_over);
        }
    }

    /// Before anything was read in this epoch: what was committed is about a log that is gone from
    /// `offset` on.
    fn report_cut(&mut self, expected: i64, offset: i64) {
        self.read_metrics.log_cut();
        tracing::warn!(
            topic = %self.topic, partition = self.partition, expected, offset,
            "the log was cut below the committed position, and written anew, while nobody read it: an unclean leader election, \
             a lost disk, or a topic made anew; all that was written there is processed"
        );
    }

    /// With `latest`. How much of what lies below `expected` is new is not known.
    fn report_cut_with_latest(&mut self, expected: i64, offset: i64) {
        self.read_metrics.log_cut();
        tracing::warn!(
            topic = %self.topic, partition = self.partition, expected, offset,
            "the log went back: it was cut, or the topic was made anew; with auto.offset.reset=latest \
             nothing is read below the expected position, and nothing below the end of a shorter log"
        );
    }

    /// Nothing is read again that lies in between.
    fn report_passed_over(&mut self, passed_over: PassedOver) {
        let PassedOver { from, to } = passed_over;
        tracing::warn!(
            topic = %self.topic, partition = self.partition, from = from.get(), to = to.get(),
            "records were passed over: they were deleted before they were read, or auto.offset.reset leaves them out"
        );
        self.read_metrics.passed_over(passed_over.offsets());
    }
}

impl Assignment {
    /// What the assignment could not find out: what is committed.
    fn committed_is(
        &mut self,
        topic: &str,
        partition: i32,
        committed: Option<CommittedPoint>,
        paused: bool,
    ) {
        let Some(found) = self
            .find(topic, partition)
            .filter(|p| p.step() == Some(Step::AskCommitted))
        else {
            return;
        };
        if committed.is_none() {
            if let Some(beginning) = &mut found.beginning {
                beginning.committed(None);
            }
            return;
        }
        let Some(mut old) = self.close_now(topic, partition) else {
            return;
        };
        let there: Vec<_> = old
            .identity
            .log()
            .map(|log| (topic.to_owned(), log))
            .into_iter()
            .collect();
        let mut new = NewPartition {
            committed,
            ..old.replacement()
        };
        compare_logs(std::slice::from_mut(&mut new), &there);
        // A topic that was made anew is read from its beginning.
        let at = new
            .committed
            .as_ref()
            .map_or(ClientPosition::BEGINNING, |committed| committed.position);
        if let Some(beginning) = &mut new.beginning {
            beginning.committed(Some((at.position, at.leader_epoch)));
        }
        self.replace(&mut old, new, paused);
    }

    /// Begins an epoch at a position that was just found. It is committed like a mark, with an
    /// answer.
    fn begin_at(&mut self, topic: &str, partition: i32, position: Position, paused: bool) {
        if self
            .find(topic, partition)
            .is_none_or(|p| p.pending_records() > 0)
        {
            return;
        }
        let Some(mut old) = self.close_now(topic, partition) else {
            return;
        };
        if let Some(beginning) = &mut old.beginning {
            beginning.opened();
        }
        let log = old.identity.log();
        let at = ClientPosition {
            position,
            leader_epoch: None,
        };
        let committed = Some(CommittedPoint {
            position: at,
            metadata: Vec::new(),
        });
        let new = NewPartition {
            committed,
            ..old.replacement()
        };
        self.replace(&mut old, new, paused);
        if let Some(new) = self.find(topic, partition) {
            // Stored with the client like any other point: its next commit would take this one
            // back.
            new.progress.set_commit_point(CommitPoint {
                position,
                leader_epoch: None,
                metadata: commit_map::encode_for(
                    log,
                    position,
                    [],
                    &Evidence::default(),
                    MAX_METADATA_BYTES,
                )
                .text,
                mark: Some(OPENING),
                running: false,
            });
            new.commits.open_at_first_position();
        }
    }

    /// Opens `new` in place of `old`, which is closed.
    fn replace(&mut self, old: &mut Assigned, new: NewPartition, paused: bool) {
        let (topic, partition) = (old.topic.clone(), old.partition);
        self.open(new, paused || old.held);
        if let Some(new) = self.find(&topic, partition) {
            new.commits.follow(&old.commits);
            new.fetch_paused = old.fetch_paused;
            new.identity = std::mem::take(&mut old.identity);
            new.end_offset = old.end_offset;
            new.searching_since = old.searching_since;
        }
    }

    fn take_confirmations(&mut self) {
        for partition in self
            .partitions
            .iter_mut()
            .filter(|partition| !partition.commits.is_opening())
        {
            if let Some(beginning) = &mut partition.beginning {
                beginning.confirmed();
            }
        }
    }
}

impl PollLoop {
    /// Takes the next steps of the partitions that have no position yet.
    pub(crate) fn look_after_beginnings(&mut self) {
        let is_searching = self
            .assignment
            .partitions
            .iter()
            .any(|partition| partition.beginning.is_some());
        if !is_searching || self.is_draining() || self.hand_over.is_under_way() {
            return;
        }
        if self
            .assignment
            .partitions
            .iter()
            .any(|p| p.step() == Some(Step::AskCommitted))
        {
            self.ask_committed();
        }
        if let Some(p) = self
            .assignment
            .partitions
            .iter()
            .find(|p| p.step() == Some(Step::Fail))
        {
            return self.control.fail(without_position(&p.topic, p.partition));
        }
        self.ask_ranges();
        self.open_beginnings();
        self.seek_beginnings();
        self.report_beginnings();
    }

    /// What the assignment could not find out.
    fn ask_committed(&mut self) {
        let longer = 1 << self.asked.unheard.min(8);
        let within = (COMMITTED_WITHIN * longer).min(COMMITTED_WITHIN_AT_MOST);
        if !Asked::is_due(
            &mut self.asked.committed,
            ASK_COMMITTED_AGAIN.max(within * 10),
        ) {
            return;
        }
        let unknown = self
            .assignment
            .partitions
            .iter()
            .filter(|p| p.step() == Some(Step::AskCommitted));
        let unknown = unknown.map(|p| (&*p.topic, p.partition));
        match self.client.committed(unknown, within) {
            Ok(answers) => {
                self.asked.unheard = 0;
                for answer in answers {
                    self.assignment.committed_is(
                        &answer.topic,
                        answer.partition,
                        answer.committed,
                        self.was_paused,
                    );
                }
                self.intake.table_changed();
            }
            Err(error) => {
                self.asked.unheard = if error.is_time_out() {
                    self.asked.unheard + 1
                } else {
                    0
                };
                trouble::note_committed(&self.control, &self.metrics, &error);
            }
        }
    }

    fn ask_ranges(&mut self) {
        let is_due = self
            .assignment
            .partitions
            .iter()
            .any(|p| p.step() == Some(Step::AskRange));
        if !is_due {
            return;
        }
        self.take_end_offsets();
        if Asked::is_due(&mut self.asked.range, ASK_AGAIN) {
            let unknown = self.assignment.partitions.iter();
            // What is pending may still be settled; a new epoch would drop it.
            let unknown =
                unknown.filter(|p| p.step() == Some(Step::AskRange) && p.pending_records() == 0);
            let ends: Vec<_> = unknown.map(|p| (p.topic.clone(), p.partition)).collect();
            if !ends.is_empty() {
                self.end_offsets.ask_at_once(ends);
            }
        }
    }

    fn open_beginnings(&mut self) {
        let known: Vec<_> = (self.assignment.partitions.iter())
            .filter_map(|p| match p.step() {
                Some(Step::Commit(position)) => Some((p.topic.to_string(), p.partition, position)),
                _ => None,
            })
            .collect();
        for (topic, partition, position) in &known {
            self.assignment
                .begin_at(topic, *partition, *position, self.was_paused);
        }
        if !known.is_empty() {
            self.intake.table_changed();
        }
        self.assignment.take_confirmations();
    }

    /// How long the next read may wait for records: positions are to be set soon.
    pub(crate) fn until_next_seek(&self) -> Option<Duration> {
        let wanted = self
            .assignment
            .partitions
            .iter()
            .any(|p| matches!(p.step(), Some(Step::Seek(..))));
        wanted.then(|| self.asked.seek.due_in())
    }

    /// Sets all positions that are known in one call: one partition more costs no time.
    fn seek_beginnings(&mut self) {
        if self.until_next_seek().is_none_or(|wait| !wait.is_zero()) {
            return;
        }
        let (mut places, mut positions) = (Vec::new(), Vec::new());
        for (place, partition) in self.assignment.partitions.iter().enumerate() {
            let Some(Step::Seek(position, leader_epoch)) = partition.step() else {
                continue;
            };
            places.push((place, position, leader_epoch));
            positions.push(PositionToSet {
                topic: &partition.topic,
                partition: partition.partition,
                position,
                leader_epoch,
            });
        }
        let answers = self.client.seek_all(&positions, SEEK_WITHIN);
        let mut refused = 0;
        for ((place, position, epoch), answer) in places.into_iter().zip(answers) {
            let partition = &mut self.assignment.partitions[place];
            let (topic, id, position) = (&partition.topic, partition.partition, position.get());
            match answer {
                None => {
                    match epoch {
                        None => tracing::info!(%topic, partition = id, position, "reading begins"),
                        Some(epoch) => tracing::debug!(
                            %topic, partition = id, position, leader_epoch = epoch.get(),
                            "reading begins, unless the log was cut"
                        ),
                    }
                    partition.beginning = None;
                    partition.asked_by_epoch = epoch.map(|_| Instant::now());
                }
                Some(error) => {
                    tracing::debug!(%error, %topic, partition = id, "the client takes no position yet");
                    refused += 1;
                }
            }
        }
        self.asked.seek.done(refused == 0);
        self.update_pauses();
        // A second later health would still say that there is no position.
        self.tell_partitions();
    }

    fn report_beginnings(&mut self) {
        let searching = || {
            self.assignment
                .partitions
                .iter()
                .filter(|p| p.beginning.is_some())
        };
        let late = searching()
            .filter(|p| p.searching_since.elapsed() >= REPORT_EVERY)
            .count();
        if late > 0 && Asked::is_due(&mut self.asked.reported, REPORT_EVERY) {
            let first = searching().find(|p| p.searching_since.elapsed() >= REPORT_EVERY);
            let place = first
                .map(|p| format!("{}-{}", p.topic, p.partition))
                .unwrap_or_default();
            tracing::warn!(
                partitions = late, first = place, step = ?first.and_then(Assigned::step),
                "partitions have no position to be read from yet, and nothing starts there: the brokers do not \
                 answer, do not take the commit, or records from before are not settled"
            );
        }
    }
}

#[cfg(test)]
mod tests;
