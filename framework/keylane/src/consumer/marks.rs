//! Commits that have to be on the broker before records start: the marks of crash-safe poison detection.
//!
//! All partitions' wanted marks go out together, one commit at a time, and the owners are told when the broker has them.
//! Cost when nothing crashes: one commit per assignment. While the coordinator is away starts wait: those of partitions
//! that have not crashed for [`keylane_core::MARK_PATIENCE`] at most, others as long as it takes. Polling goes on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keylane_core::Mark;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::RDKafkaErrorCode;

use super::assigned::Assigned;
use super::commit_queue::CommitQueue;
use super::context::{Context, list_with_points};
use crate::runtime::Inbox;

/// How long after a refusal the next try waits.
const AGAIN: Duration = Duration::from_millis(100);

pub(super) struct Marks {
    queue: CommitQueue,
    /// What the commit under way was sent for; empty where only for its answer.
    under_way: Option<Vec<Sent>>,
    proof: Proof,
    again_at: Option<Instant>,
    complained: bool,
}

/// Of membership: brokers take a commit from members only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    None,
    /// The next commit is to bring it. One that is under way already may have been answered long ago.
    Wanted,
    UnderWay,
    Given,
}

/// What was committed for one epoch of a partition. The inbox is the epoch's own: a late answer reaches nobody else.
struct Sent {
    topic: Arc<str>,
    partition: i32,
    mark: Mark,
    inbox: Arc<Inbox>,
}

/// Commits of [`Evidence::at_start`](keylane_core::Evidence::at_start) need an answer as marks do, but no owner waits for it.
pub(super) const OPENING: Mark = Mark::new(0);

impl Marks {
    pub(super) fn new(queue: CommitQueue) -> Self {
        Self { queue, under_way: None, proof: Proof::None, again_at: None, complained: false }
    }

    /// Whether answers are waited for.
    pub(super) fn is_waiting(&self) -> bool {
        self.under_way.is_some() || self.again_at.is_some() || self.proof != Proof::None
    }

    pub(super) fn ask_for_proof(&mut self) {
        self.proof = Proof::Wanted;
    }

    pub(super) fn forget_proof(&mut self) {
        self.proof = Proof::None;
    }

    pub(super) fn take_proof(&mut self) -> bool {
        let given = self.proof == Proof::Given;
        if given {
            self.proof = Proof::None;
        }
        given
    }

    /// Takes in what was answered. `Err` where the metadata is too large for the broker.
    pub(super) fn take_answers(&mut self, partitions: &mut [Assigned]) -> Result<(), TooLarge> {
        while let Some(answer) = self.queue.answer() {
            let sent = self.under_way.take().unwrap_or_default();
            if self.proof == Proof::UnderWay {
                // A rebalance under way refuses the commit, but to a member.
                let is_member = matches!(answer, Ok(()) | Err(RDKafkaErrorCode::RebalanceInProgress));
                self.proof = if is_member { Proof::Given } else { Proof::Wanted };
            }
            match answer {
                Ok(()) => {
                    self.complained = false;
                    sent.into_iter().for_each(|sent| sent.confirm(partitions));
                }
                Err(RDKafkaErrorCode::OffsetMetadataTooLarge) => return Err(TooLarge),
                Err(error) => self.failed(error),
            }
        }
        Ok(())
    }

    /// Commits every mark that is wanted and not confirmed, with the partitions' stored points.
    ///
    /// What was found at the opening goes first, alone: before it is on the broker nothing may run that could kill, or the
    /// next start would find the same crash again: in the logs, in the metrics, and with what it named.
    pub(super) fn send(&mut self, consumer: &BaseConsumer<Context>, partitions: &[Assigned]) {
        if self.under_way.is_some() || self.again_at.is_some_and(|again| Instant::now() < again) {
            return;
        }
        self.again_at = None;
        let opening = partitions.iter().any(|partition| partition.opening);
        let wanted = partitions.iter().filter(|partition| partition.opening || !opening);
        let wanted: Vec<_> = wanted.filter_map(|partition| partition.unconfirmed_mark().zip(Some(partition))).collect();
        // Where no mark is wanted any commit will do: the same once more.
        let again = if wanted.is_empty() && self.proof == Proof::Wanted { partitions } else { &[] };
        let points = wanted.iter().map(|(_, partition)| *partition).chain(again).filter_map(|partition| {
            let point = partition.stored.as_ref()?;
            Some((&*partition.topic, partition.partition, point.position, point.metadata.as_str()))
        });
        let points: Vec<_> = points.collect();
        if points.is_empty() {
            if self.proof == Proof::Wanted {
                self.proof = Proof::Given;
            }
            return;
        }
        let sent = list_with_points(points.into_iter())
            .map_err(|error| error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::InvalidArgument))
            .and_then(|list| self.queue.send(consumer, &list));
        if let Err(error) = sent {
            return self.failed(error);
        }
        if self.proof == Proof::Wanted {
            self.proof = Proof::UnderWay;
        }
        let wanted = wanted.into_iter();
        let sent = wanted.map(|(mark, partition)| Sent {
            topic: partition.topic.clone(),
            partition: partition.partition,
            mark,
            inbox: partition.inbox.clone(),
        });
        self.under_way = Some(sent.collect());
    }

    /// The broker takes no metadata at all: work goes on without protection.
    pub(super) fn give_up(&mut self, partitions: &mut [Assigned]) {
        // A first position is more than a mark: it is committed without metadata.
        for partition in partitions.iter_mut().filter(|partition| partition.beginning.is_none()) {
            if let Some(mark) = partition.unconfirmed_mark() {
                partition.confirm(mark);
                partition.inbox.order(|orders| orders.marked = orders.marked.max(mark.get()));
            }
        }
    }

    fn failed(&mut self, error: RDKafkaErrorCode) {
        self.again_at = Some(Instant::now() + AGAIN);
        if !std::mem::replace(&mut self.complained, true) {
            tracing::warn!(%error, "a commit that starts wait for is not taken: a mark against poison records, or a proof of membership");
        }
    }
}

impl Sent {
    fn confirm(self, partitions: &mut [Assigned]) {
        let epoch = partitions.iter_mut().find(|partition| Arc::ptr_eq(&partition.inbox, &self.inbox));
        if let Some(partition) = epoch {
            debug_assert!(partition.partition == self.partition && partition.topic == self.topic);
            partition.confirm(self.mark);
        }
        self.inbox.order(|orders| orders.marked = orders.marked.max(self.mark.get()));
    }
}

/// `offset.metadata.max.bytes` of the broker is smaller than what was written.
#[derive(Debug)]
pub(super) struct TooLarge;
