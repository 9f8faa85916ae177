//! From the owners' commit points to the client, which commits them.
//!
//! The client commits stored offsets by itself, each half commit interval and with every unassign. Three cases it leaves out:
//! a point whose position has not moved (only its map has), one that lies below an earlier commit (the log was cut or made
//! anew: left where it is, the commit would skip records once the log has grown past it), and anything while a revoke waits for its answer. Those are
//! committed explicitly, without waiting: the client reports no result then, but it can only lose a map, or be
//! repeated by the next stored point, never commit something unsettled (guarantee G4).

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::assigned::Assigned;
use super::context::{Context, list_with_points};
use crate::runtime::CommitPoint;

#[derive(Debug)]
pub(super) struct Commits {
    /// Off once a broker has refused metadata of our size: positions are committed all the same.
    metadata: bool,
}

impl Commits {
    pub(super) fn new() -> Self {
        Self { metadata: true }
    }

    /// Stores every new commit point. `suspended`: the client does not commit by itself at present.
    pub(super) fn store(&mut self, consumer: &BaseConsumer<Context>, partitions: &mut [Assigned], suspended: bool) {
        if consumer.context().take_metadata_refused() {
            self.give_up_metadata(consumer, partitions);
        }
        let (mut stored, mut explicit) = (Vec::new(), Vec::new());
        for (place, partition) in partitions.iter_mut().enumerate() {
            let Some(mut point) = partition.progress.take_commit_point() else { continue };
            if !self.metadata {
                point.metadata.clear();
            }
            let moved = partition.stored.as_ref().is_none_or(|stored| stored.position != point.position);
            if !moved && partition.stored.as_ref() == Some(&point) {
                continue;
            }
            stored.push(place);
            let back = partition.highest.is_some_and(|highest| point.position < highest);
            partition.highest = partition.highest.max(Some(point.position));
            if !moved || back || suspended {
                explicit.push(place);
            }
            partition.stored = Some(point);
        }
        store(consumer, partitions, &stored);
        commit(consumer, partitions, &explicit);
    }

    /// Commits the last commit points and waits for the broker's word.
    pub(super) fn commit_final(
        &mut self,
        consumer: &BaseConsumer<Context>,
        partitions: &mut [Assigned],
    ) -> FinalCommit {
        self.store(consumer, partitions, false);
        let all: Vec<usize> = (0..partitions.len()).filter(|&place| partitions[place].stored.is_some()).collect();
        if all.is_empty() {
            return FinalCommit::Done;
        }
        let result =
            list_with_points(points(partitions, &all)).and_then(|list| consumer.commit(&list, CommitMode::Sync));
        match result.as_ref().map_err(KafkaError::rdkafka_error_code) {
            Ok(()) => FinalCommit::Done,
            Err(Some(RDKafkaErrorCode::RebalanceInProgress | RDKafkaErrorCode::IllegalGeneration)) => {
                FinalCommit::Again
            }
            Err(Some(RDKafkaErrorCode::OffsetMetadataTooLarge)) => {
                self.give_up_metadata(consumer, partitions);
                FinalCommit::Again
            }
            Err(_) => {
                tracing::warn!(?result, "the final commit failed; closing tries once more");
                FinalCommit::Done
            }
        }
    }

    /// A broker with a smaller `offset.metadata.max.bytes` than Kafka's default refuses such commits for ever, and with them
    /// the client reports every other one as failed. Positions matter more than maps.
    fn give_up_metadata(&mut self, consumer: &BaseConsumer<Context>, partitions: &mut [Assigned]) {
        if std::mem::replace(&mut self.metadata, false) {
            tracing::warn!(
                "the broker refuses commit metadata of up to {} bytes (offset.metadata.max.bytes); \
                 committing without the settled-ahead map: more is delivered again after a restart",
                keylane_core::MAX_METADATA_BYTES
            );
        }
        for partition in partitions.iter_mut() {
            if let Some(stored) = &mut partition.stored {
                stored.metadata.clear();
            }
        }
        let all: Vec<usize> = (0..partitions.len()).filter(|&place| partitions[place].stored.is_some()).collect();
        store(consumer, partitions, &all);
    }
}

/// What became of the commit before closing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FinalCommit {
    /// The broker has it, or will never take it from this member.
    Done,
    /// A rebalance is in the way.
    Again,
}

fn points<'a>(partitions: &'a [Assigned], places: &'a [usize]) -> impl Iterator<Item = (&'a str, i32, i64, &'a str)> {
    places.iter().filter_map(|&place| {
        let partition = &partitions[place];
        let CommitPoint { position, metadata } = partition.stored.as_ref()?;
        Some((&*partition.topic, partition.partition, *position, metadata.as_str()))
    })
}

fn store(consumer: &BaseConsumer<Context>, partitions: &[Assigned], places: &[usize]) {
    if places.is_empty() {
        return;
    }
    let result = list_with_points(points(partitions, places)).and_then(|list| {
        consumer.store_offsets(&list)?;
        // The call answers Ok even where single partitions were refused.
        list.elements().iter().try_for_each(|element| element.error())
    });
    if let Err(error) = result {
        // Not assigned any more: its next owner starts from the last commit.
        tracing::debug!(%error, "offsets of a partition that is gone were not stored");
    }
}

fn commit(consumer: &BaseConsumer<Context>, partitions: &[Assigned], places: &[usize]) {
    if places.is_empty() {
        return;
    }
    let result =
        list_with_points(points(partitions, places)).and_then(|list| consumer.commit(&list, CommitMode::Async));
    if let Err(error) = result {
        tracing::debug!(%error, "an explicit commit was not taken; the next one covers it");
    }
}
