//! What all parts of an owner work on: its partition.

use std::collections::BTreeMap;
use std::sync::Arc;

use keylane_core::{Offset, OperatorNote, Partition};
use tokio::runtime::Handle;

use super::guarded;
use super::inbox::Inbox;
use super::pending_record::PendingRecord;
use super::progress::Progress;
use super::shared::Runtime;
use crate::metrics::PartitionMetrics;
use crate::processing::Source;
use crate::record::Origin;

/// A partition for one epoch: its state, where it is reported to, and what all owners share.
pub(crate) struct OwnedPartition {
    pub(crate) core: Partition<PendingRecord>,
    pub(crate) metrics: PartitionMetrics,
    pub(crate) runtime: Arc<Runtime>,
    /// The source of a task, as the task shows it.
    pub(crate) source: Arc<Source>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) released_records: u64,
    pub(crate) released_bytes: u64,
    /// Who ordered the dead letters that are not settled yet, and why.
    pub(crate) dead_letter_orders: BTreeMap<Offset, OperatorNote>,
}

impl OwnedPartition {
    /// Topic and partition, for the log.
    pub(crate) fn name(&self) -> (&Arc<str>, i32) {
        (&self.source.topic, self.source.partition)
    }

    /// Where a record was first read.
    pub(crate) fn origin_of(&self, pending: &PendingRecord) -> Origin {
        let record = &pending.record;
        record.origin().cloned().unwrap_or_else(|| Origin {
            topic: self.source.topic.clone(),
            partition: self.source.partition,
            offset: record.offset(),
            log: self.source.log_of(record),
        })
    }

    /// A record has left memory.
    pub(crate) fn release(&mut self, bytes: usize) {
        self.released_records += 1;
        self.released_bytes += bytes as u64;
    }

    /// Spawns a task whose answer the owner waits for.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let place = (self.source.topic.clone(), self.source.partition);
        guarded::spawn(
            &Handle::current(),
            self.runtime.control.clone(),
            place,
            task,
        );
    }
}
