//! What operators order of this member alone for one partition: it lasts as long as the assignment,
//! and so longer than an epoch.

use std::sync::{Arc, Mutex};

use keylane_core::{Epoch, PartitionDirectives};

use crate::support::lock::lock;

/// One for each assignment of a partition. The owner of each epoch has a copy, and notes what
/// changes; an owner whose epoch was replaced meanwhile can note nothing.
pub(crate) struct OwnOrders {
    topic: Arc<str>,
    partition: i32,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    epoch: Option<Epoch>,
    orders: PartitionDirectives,
}

/// Whether the next epoch reads the log of the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SameLog {
    Yes,
    No,
}

impl OwnOrders {
    pub(crate) fn new(topic: Arc<str>, partition: i32) -> Self {
        Self {
            topic,
            partition,
            known: Mutex::default(),
        }
    }

    /// An epoch begins; what holds in it. Skips are about records, and so about a log.
    pub(crate) fn begin(&self, epoch: Epoch, log: SameLog) -> PartitionDirectives {
        let mut known = lock(&self.known);
        known.epoch = Some(epoch);
        if log == SameLog::No {
            let skips = std::mem::take(&mut known.orders.skips).len();
            if skips > 0 {
                tracing::warn!(
                    topic = %self.topic, partition = self.partition, skips,
                    "skips that were ordered of this member alone are void: the log was cut, or the topic was re-created"
                );
            }
        }
        known.orders.clone()
    }

    /// The orders of an epoch have changed. `false` where it is over: the next one has begun without
    /// this change.
    pub(crate) fn note(&self, epoch: Epoch, orders: &PartitionDirectives) -> bool {
        let mut known = lock(&self.known);
        let is_current = known.epoch == Some(epoch);
        if is_current {
            known.orders.clone_from(orders);
        }
        is_current
    }
}

/// The assignment is over, and so is its last owner.
impl Drop for OwnOrders {
    fn drop(&mut self) {
        let known = lock(&self.known);
        let (paused_keys, skips) = (known.orders.paused_keys.len(), known.orders.skips.len());
        if paused_keys > 0 {
            tracing::info!(
                topic = %self.topic, partition = self.partition, paused_keys,
                "the keys that this member alone has paused are resumed: the partition is given up"
            );
        }
        if skips > 0 {
            tracing::warn!(
                topic = %self.topic, partition = self.partition, skips,
                "skips that were ordered of this member alone are not carried out: the partition is given up; order them \
                 of its next owner, or by the control topic"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use keylane_core::{Offset, OperatorNote};

    use super::*;

    #[test]
    fn orders_outlast_epochs_skips_only_of_one_log_and_what_comes_too_late_is_refused() {
        let own = OwnOrders::new("tasks".into(), 0);
        let epoch = Epoch::new;
        assert_eq!(own.begin(epoch(1), SameLog::No), Default::default());
        let mut orders = PartitionDirectives::default();
        orders.paused_keys.insert(7);
        let note = OperatorNote::new("ann", "INC-7");
        orders.skips.insert(Offset::new(3), note.into());
        assert!(own.note(epoch(1), &orders));
        assert_eq!(own.begin(epoch(2), SameLog::Yes), orders);
        assert!(!own.note(epoch(1), &PartitionDirectives::default()));
        let keys_alone = PartitionDirectives {
            paused_keys: [7].into(),
            ..PartitionDirectives::default()
        };
        assert_eq!(own.begin(epoch(3), SameLog::No), keys_alone);
        assert!(own.note(epoch(3), &PartitionDirectives::default()));
        assert_eq!(own.begin(epoch(4), SameLog::Yes), Default::default());
    }
}
