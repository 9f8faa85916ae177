//! The polling thread's state of one assigned partition.

use std::ffi::CString;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use keylane_core::member::{
    EpochCommits, NextEpoch, PartitionLimits, Reached, ReadLog, Report, TopicPartition,
};
use keylane_core::{
    Beginning, Budget, EmptiedLog, LeaderEpoch, LogId, LogRange, Moment, NotDueEpisode, OwnerWatch,
    PartitionDirectives, Position, Reset, StartQuestion, StartSigns, Step, Withheld,
};

use super::assignment::Carried;
use super::steering::Steered;
use crate::kafka::{NewPartition, READ_LIMIT};
use crate::metrics::{MetricLabels, ReadMetrics};
use crate::record::Record;
use crate::runtime::{Inbox, OwnOrders, Progress, SameLog};
use crate::status::OutageWatch;

pub(crate) struct Assigned {
    pub(crate) topic: Arc<str>,
    pub(crate) topic_c: CString,
    pub(crate) partition: i32,
    pub(crate) is_retry_topic: bool,
    /// The log that this epoch reads.
    pub(crate) log: ReadLog,
    /// A broker has named it since this epoch, or the one before it in the same log, began.
    pub(crate) log_is_confirmed: bool,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) read_metrics: ReadMetrics,
    /// Records taken in by the current read, not handed over yet.
    pub(crate) batch: Vec<Record>,
    pub(crate) batch_bytes: u64,
    /// The leader epoch of the latest record; see [`note_leader`](Self::note_leader).
    leader_epoch: i32,
    /// The first record of each later leader epoch in the batch.
    leaders: Vec<(i64, LeaderEpoch)>,
    /// Records handed to the owner in this epoch.
    delivered_records: u64,
    delivered_bytes: u64,
    pub(crate) emptied: EmptiedLog,
    pub(crate) withheld: Withheld,
    /// The steps to the first position. What is read until then is dropped.
    pub(crate) beginning: Option<Beginning>,
    /// When these steps began, if there are any.
    pub(crate) searching_since: Instant,
    /// Whether the log's leader has confirmed the start.
    pub(crate) start_question: StartQuestion,
    pub(crate) limits: PartitionLimits,
    pub(crate) not_due_episode: NotDueEpisode,
    /// The user paused the subscription or this partition.
    pub(crate) held_by_user: bool,
    /// What the control topic orders.
    pub(crate) steered: Steered,
    /// What operators order of this member alone.
    own_orders: Arc<OwnOrders>,
    /// What the control topic directs, as the owner has it, and how many times it has changed.
    directives: PartitionDirectives,
    directed: u64,
    /// The user or the control topic pauses it, and the owner has the order.
    pub(crate) held: bool,
    /// How many times it was paused in this epoch.
    pub(crate) pauses: u64,
    /// Whether the client was ordered to pause.
    pub(crate) fetch_paused: bool,
    pub(crate) commits: EpochCommits,
    /// The log's range from the side client, which is queried while the partition is paused.
    pub(crate) queried: Option<LogRange>,
    first_batch_at: Option<Instant>,
    /// The log's end as it was known before this epoch; see [`knows_log_end`](Self::knows_log_end).
    pub(crate) stale_end: Option<i64>,
    /// The owner has the log's end.
    pub(crate) sent_log_end: bool,
    opened_at: Instant,
    pub(crate) owner_watch: OwnerWatch,
    /// Being given back.
    pub(crate) revoking: bool,
}

impl Assigned {
    pub(crate) fn new(
        commits: EpochCommits,
        inbox: Arc<Inbox>,
        progress: Arc<Progress>,
        is_retry_topic: bool,
        labels: &MetricLabels<'_>,
        (records, ahead): (Budget, Budget),
        own_orders: Arc<OwnOrders>,
    ) -> Self {
        let TopicPartition { topic, partition } = commits.place().clone();
        // Topic names hold no NUL: Kafka allows letters, digits, '.', '_' and '-' only.
        let topic_c = CString::new(topic.as_bytes()).unwrap_or_default();
        Self {
            topic,
            topic_c,
            partition,
            inbox,
            progress,
            read_metrics: ReadMetrics::new(labels),
            is_retry_topic,
            log: ReadLog::new(None, Reset::Earliest, None, READ_LIMIT),
            log_is_confirmed: false,
            batch: Vec::new(),
            batch_bytes: 0,
            leader_epoch: -1,
            leaders: Vec::new(),
            delivered_records: 0,
            delivered_bytes: 0,
            emptied: EmptiedLog::default(),
            withheld: Withheld::default(),
            beginning: None,
            searching_since: Instant::now(),
            start_question: StartQuestion::default(),
            limits: PartitionLimits { records, ahead },
            not_due_episode: NotDueEpisode::default(),
            held_by_user: false,
            steered: Steered::default(),
            own_orders,
            directives: PartitionDirectives::default(),
            directed: 0,
            held: false,
            pauses: 0,
            fetch_paused: false,
            commits,
            queried: None,
            first_batch_at: None,
            stale_end: None,
            sent_log_end: false,
            opened_at: Instant::now(),
            owner_watch: OwnerWatch::default(),
            revoking: false,
        }
    }

    pub(crate) fn now(&self) -> Moment {
        Moment::new(self.opened_at.elapsed())
    }

    /// Hands the batch to the owner.
    pub(crate) fn hand_over(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        self.first_batch_at.get_or_insert_with(Instant::now);
        self.delivered_records += self.batch.len() as u64;
        self.read_metrics.delivered(self.batch.len() as u64);
        self.delivered_bytes += std::mem::take(&mut self.batch_bytes);
        self.inbox.deliver(&mut self.batch, &mut self.leaders);
    }

    /// Notes under which leader a record was written. It changes rarely, so the owner gets the
    /// changes and not one for each record.
    pub(crate) fn note_leader(&mut self, epoch: i32, offset: i64) {
        if epoch != self.leader_epoch {
            self.leader_epoch = epoch;
            self.leaders
                .extend(LeaderEpoch::of_record(epoch).map(|epoch| (offset, epoch)));
        }
    }

    /// A broker names this log.
    pub(super) fn confirm_log(&mut self, log: LogId) {
        if !self.log_is_confirmed && self.log.id() == Some(log) && !self.log.has_changed() {
            self.log_is_confirmed = true;
            self.inbox.order(|orders| orders.log_is_confirmed = true);
        }
    }

    /// Drops what this read has taken: offsets from an earlier log.
    pub(crate) fn drop_batch(&mut self) {
        self.batch.clear();
        self.batch_bytes = 0;
    }

    /// What is pending is of a topic that was deleted.
    pub(crate) fn hand_back_deleted(&mut self) {
        let dropped = self.pending_records();
        self.read_metrics.handed_back(dropped);
        if dropped > 0 {
            tracing::warn!(
                topic = %self.topic, partition = self.partition, dropped,
                "records of the deleted topic were left unsettled; they are not read again"
            );
        }
    }

    /// What the next epoch of this partition begins with.
    pub(super) fn replacement(&self) -> NewPartition {
        NewPartition {
            topic: self.topic.to_string(),
            partition: self.partition,
            committed: None,
            log: self.log.id(),
            log_is_confirmed: self.log_is_confirmed,
            left: None,
            stale_end: self.stale_end,
            beginning: self.beginning,
        }
    }

    /// What holds in the next epoch too.
    pub(super) fn carried(&self, log: SameLog) -> Carried {
        Carried {
            held_by_user: self.held_by_user,
            steered: self.steered.clone(),
            own_orders: self.own_orders.clone(),
            log,
        }
    }

    /// The epoch that is to follow now because the log has changed.
    pub(crate) fn next_epoch(&self) -> Option<NextEpoch> {
        if !self.log.has_changed() {
            return None;
        }
        let reached = Reached {
            watermark: self.progress.figures().snapshot.watermark,
            has_ended: self.has_ended(),
            revoking: self.revoking,
        };
        self.log.next_epoch(reached, self.now())
    }

    /// The next step to a first position, where there is one to take.
    pub(super) fn step(&self) -> Option<Step> {
        self.beginning.as_ref().map(Beginning::step)
    }

    pub(crate) fn pending_records(&self) -> u64 {
        self.delivered_records
            .saturating_sub(self.progress.released_records())
    }

    pub(crate) fn pending_bytes(&self) -> u64 {
        self.delivered_bytes
            .saturating_sub(self.progress.released_bytes())
    }

    /// Begins or ends a pause by the user or the control topic; whether that is news.
    pub(crate) fn set_held(&mut self, held: bool) -> bool {
        let is_news = held != self.held;
        if is_news {
            self.held = held;
            self.pauses += u64::from(held);
            let pause = if held { self.pauses } else { 0 };
            self.inbox.order(|orders| orders.pause = pause);
        }
        is_news
    }

    /// Gives the owner what the control topic directs, where that has changed.
    pub(super) fn direct(&mut self, directives: PartitionDirectives) {
        if directives != self.directives {
            self.directives = directives.clone();
            self.directed += 1;
            self.inbox.direct(self.directed, directives);
        }
    }

    /// Whether the owner has read what the control topic orders: what that forbids starts no longer.
    pub(super) fn obeys_control(&self) -> bool {
        let is_paused = !self.held || self.is_at_rest();
        self.has_ended() || (is_paused && self.progress.directed() == self.directed)
    }

    /// Whether such a pause is in force: the owner, which may have been in the middle of a
    /// pass, has read it.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.held && self.progress.pause() == self.pauses
    }

    /// Whether a limit of this partition requires a pause (guarantee G6).
    pub(crate) fn is_over_limit(&mut self, outages: &OutageWatch) -> bool {
        let pending = self.pending_records();
        let ahead = self.progress.settled_ahead();
        self.limits
            .update(pending, ahead, || outages.nothing_succeeds())
    }

    /// The owner's new commit point, if there is one.
    pub(crate) fn report(&mut self) -> Option<Report> {
        let point = self.progress.take_commit_point()?;
        let ending = self.revoking || self.has_ended();
        Some(Report { point, ending })
    }

    /// Whether a mark is likely to be wanted at any moment.
    pub(crate) fn awaits_mark(&self) -> bool {
        let isolated = self.progress.isolated();
        let since_first_records = self.first_batch_at.map(|at| at.elapsed());
        self.commits.awaits_mark(isolated, since_first_records)
    }

    /// Whether the leader has not answered, after this time, where the start's epoch ends.
    pub(crate) fn may_be_unanswered(&self, after: Duration) -> bool {
        let has_read = self.log.next().is_some();
        self.start_question
            .may_be_unanswered(has_read, after, self.now())
    }

    /// Looks whether the question for the start's epoch has no answer.
    pub(crate) fn look_for_an_answer(&mut self, cached: Option<i64>) {
        let signs = StartSigns {
            start: self.log.start(),
            has_read: self.log.next().is_some(),
            is_paused: self.fetch_paused,
            end: cached.map(Position::new),
            end_before: self.stale_end.map(Position::new),
            asked_end: self.queried.map(|range| range.end),
        };
        if self.start_question.look(&signs, self.now()) {
            tracing::warn!(
                topic = %self.topic, partition = self.partition,
                position = self.log.start().map(Position::get),
                "the partition's leader does not answer whether the log was cut below the position, and nothing is \
                 read before"
            );
        }
    }

    /// Whether the client's figure for the log's end is of this epoch. The client keeps that of an
    /// earlier assignment until its first fetch, and records above it would pass for having come
    /// after the last crash.
    pub(crate) fn knows_log_end(&self, cached: Option<i64>) -> bool {
        self.log.next().is_some() || self.queried.is_some() || cached != self.stale_end
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.progress.ended.load(Ordering::Acquire)
    }
}

impl AsRef<EpochCommits> for Assigned {
    fn as_ref(&self) -> &EpochCommits {
        &self.commits
    }
}

impl AsMut<EpochCommits> for Assigned {
    fn as_mut(&mut self) -> &mut EpochCommits {
        &mut self.commits
    }
}

#[cfg(test)]
impl Assigned {
    /// The first partition of a topic, without an owner.
    pub(crate) fn for_tests(topic: &str, epoch: u64) -> Self {
        let labels = MetricLabels {
            subscription: "s",
            topic,
            partition: 0,
        };
        let place = TopicPartition::new(topic, 0);
        let commits = EpochCommits::new(place, keylane_core::Epoch::new(epoch));
        let inbox = Arc::new(Inbox::new(0, false));
        let progress = Arc::new(Progress::default());
        let budgets = (Budget::new(10, 7), Budget::new(10, 7));
        let own_orders = Arc::new(OwnOrders::new(topic.into(), 0));
        Self::new(
            commits, inbox, progress, false, &labels, budgets, own_orders,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_confirmed_by_its_own_name_and_not_while_it_has_changed() {
        let [old, new] = [1, 2].map(|high| LogId::of_topic(high, 0).unwrap());
        let mut partition = Assigned::for_tests("tasks", 1);
        partition.log = ReadLog::new(Some(Position::new(0)), Reset::Earliest, Some(old), 10);
        partition.confirm_log(new);
        assert!(!partition.log_is_confirmed);
        let deadline = partition.now();
        // Named once: a broker may lag behind.
        partition.log.see(new, false, deadline);
        partition.confirm_log(new);
        assert!(!partition.log_is_confirmed);
        partition.log.see(new, false, deadline);
        partition.confirm_log(old);
        assert!(!partition.log_is_confirmed, "it is another one");

        partition.log = ReadLog::new(Some(Position::new(0)), Reset::Earliest, Some(old), 10);
        partition.confirm_log(old);
        assert!(partition.log_is_confirmed);
        assert!(partition.replacement().log_is_confirmed);
    }
}
