//! Partitions without a position to be read from: their start is queried, committed, and only then
//! read. And those whose position is to be confirmed: was the log cut below it?
//!
//! [`Beginning`] decides what comes next; this carries it out. Fetching is paused from before the
//! assignment to the last step, so nothing starts in the partition. The waits for a broker are
//! short.

use std::time::{Duration, Instant};

use keylane_core::member::{Arrival, CommitPoint, CommittedPosition, OPENING};
use keylane_core::{
    Beginning, Doubling, Evidence, LogRange, MAX_METADATA_BYTES, Offset as RecordOffset,
    PassedOver, Position, Reset, Step, commit_map,
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
/// How long that is awaited at first.
const COMMITTED_WITHIN: Duration = Duration::from_millis(500);
/// Twice as long each time, up to this: the answers of a coordinator that always takes longer would
/// never be used.
const COMMITTED_WITHIN_AT_MOST: Duration = Duration::from_secs(8);
/// How long the client may take to set positions. It answers at once.
const SEEK_WITHIN: Duration = Duration::from_millis(500);
/// When a partition that still has no position is reported, and how often from then on.
const REPORT_EVERY: Duration = Duration::from_secs(30);

/// When the queries were sent last, over all partitions.
pub(crate) struct Asked {
    range: Option<Instant>,
    committed: Option<Instant>,
    /// How long one query may take.
    committed_within: Doubling,
    seek: Seek,
    reported: Option<Instant>,
}

impl Default for Asked {
    fn default() -> Self {
        Self {
            range: None,
            committed: None,
            committed_within: Doubling::new(COMMITTED_WITHIN, COMMITTED_WITHIN_AT_MOST),
            seek: Seek::default(),
            reported: None,
        }
    }
}

/// When positions are set next.
struct Seek {
    again_at: Option<Instant>,
    wait: Doubling,
}

impl Default for Seek {
    fn default() -> Self {
        Self {
            again_at: None,
            wait: Doubling::new(SEEK_AGAIN, ASK_AGAIN),
        }
    }
}

impl Seek {
    /// How long that is from now on.
    fn due_in(&self) -> Duration {
        self.again_at.map_or(Duration::ZERO, |again_at| {
            again_at.saturating_duration_since(Instant::now())
        })
    }

    /// They were set, all or only some.
    fn done(&mut self, all: bool) {
        if all {
            *self = Self::default();
        } else {
            self.again_at = Some(Instant::now() + self.wait.get());
            self.wait.failed();
        }
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
            log: self.log.id(),
            left: None,
            stale_end: self.stale_end,
            beginning: self.beginning,
        }
    }

    /// The offset that is read next, as far as it is known.
    pub(crate) fn expected(&self) -> Option<i64> {
        self.log.expected().map(Position::get)
    }

    /// Takes in a record's place in the log. `false` where the record is to be left out.
    pub(crate) fn takes(&mut self, cached: Cached<'_>, offset: i64, print: u64) -> bool {
        let confirmed = self.start_question.is_asked();
        let first = || {
            let range = cached.range(&self.topic_c, self.partition);
            range.first.map(Position::new)
        };
        let offset = RecordOffset::new(offset);
        match self.log.record(offset, print, confirmed, first) {
            Arrival::Next => true,
            arrival => self.is_taken(arrival, offset.get()),
        }
    }

    #[cold]
    fn is_taken(&mut self, arrival: Arrival, offset: i64) -> bool {
        match arrival {
            Arrival::Next => true,
            Arrival::LeftOut => false,
            Arrival::PassedOver(passed_over) => {
                self.report_passed_over(passed_over);
                true
            }
            Arrival::CutBelowStart { expected } => {
                self.report_cut(expected.get(), offset);
                true
            }
            Arrival::WentBack => {
                self.drop_batch();
                false
            }
            Arrival::Search {
                beginning,
                expected,
                went_back,
            } => {
                if went_back {
                    self.report_cut_with_latest(expected.get(), offset);
                }
                self.search(beginning);
                false
            }
        }
    }

    /// Checks whether the log begins above the next record although no record shows it: the log may
    /// be empty.
    pub(crate) fn look_for_emptied_log(&mut self, range: &CachedRange) {
        let is_reading = !self.fetch_paused
            && self.beginning.is_none()
            && !self.log.is_recreated()
            && !self.revoking;
        // A new epoch would drop what is pending.
        let is_idle = is_reading
            && self.log.reset() != Reset::Error
            && self.pending_records() == 0
            && self.knows_log_end(range.end);
        let expected = self.expected().filter(|_| is_idle).map(Position::new);
        let now = self.now();
        if let Some(expected) = self
            .emptied
            .look(expected, range.first.map(Position::new), now)
        {
            self.search(Beginning::passed_over(self.log.reset(), expected));
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

    /// Takes the log's range, for partitions that wait for it.
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
            "the log was cut below the committed position, and written again, while no member read it: an unclean leader election, \
             a lost disk, or a re-created topic; all that was written there is processed"
        );
    }

    /// With `latest`. How much of what lies below `expected` is new is not known.
    fn report_cut_with_latest(&mut self, expected: i64, offset: i64) {
        self.read_metrics.log_cut();
        tracing::warn!(
            topic = %self.topic, partition = self.partition, expected, offset,
            "the log went back: it was cut, or the topic was re-created; with auto.offset.reset=latest \
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
            .log
            .id()
            .map(|log| (topic.to_owned(), log))
            .into_iter()
            .collect();
        let mut new = NewPartition {
            committed,
            ..old.replacement()
        };
        compare_logs(std::slice::from_mut(&mut new), &there);
        // A topic that was re-created is read from its beginning.
        let at = new
            .committed
            .as_ref()
            .map_or(CommittedPosition::BEGINNING, |committed| committed.position);
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
        let log = old.log.id();
        let at = CommittedPosition {
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
            new.fetch_paused = old.fetch_paused;
            new.log.continue_from(&mut old.log);
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
        let within = self.asked.committed_within.get();
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
                self.asked.committed_within.succeeded();
                for answer in answers {
                    self.assignment.committed_is(
                        &answer.topic,
                        answer.partition,
                        answer.committed,
                        self.was_paused,
                    );
                }
                self.batching.table_changed();
            }
            Err(error) => {
                if error.is_time_out() {
                    self.asked.committed_within.failed();
                } else {
                    self.asked.committed_within.succeeded();
                }
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
            self.batching.table_changed();
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
                    let now = partition.now();
                    partition.start_question.ask(epoch.map(|_| now));
                }
                Some(error) => {
                    tracing::debug!(%error, %topic, partition = id, "the client takes no position yet");
                    refused += 1;
                }
            }
        }
        self.asked.seek.done(refused == 0);
        self.update_pauses();
        // A second later health would still report that there is no position.
        self.publish_partitions();
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
