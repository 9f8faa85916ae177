//! Operators' acts on their way to the owners of partitions.

use std::fmt;
use std::sync::Arc;

use dashmap::DashMap;
use keylane_core::{
    ActRefused, ActTime, Epoch, KeyOutlook, Offset, OperatorNote, RecordOutlook, RetriedNow,
};
use tokio::sync::oneshot;

use crate::record::KeyHash;

/// An operator's act, for the owner of one partition. An owner that ends drops it.
#[derive(Debug)]
pub(crate) struct Act {
    pub(crate) note: OperatorNote,
    pub(crate) kind: ActKind,
}

/// Each with the way back for its answer.
#[derive(Debug)]
pub(crate) enum ActKind {
    PauseKey(KeyHash, oneshot::Sender<Result<(), ActRefused>>),
    /// The answer is whether the key still is paused.
    ResumeKey(KeyHash, oneshot::Sender<Result<bool, ActRefused>>),
    RetryNow(KeyHash, oneshot::Sender<Result<RetriedNow, ActRefused>>),
    Skip(Offset, oneshot::Sender<Result<ActTime, ActRefused>>),
    DeadLetterNow(Offset, oneshot::Sender<Result<ActTime, ActRefused>>),
    /// What the act would find.
    TryKey(
        KeyAct,
        KeyHash,
        oneshot::Sender<Result<KeyOutlook, ActRefused>>,
    ),
    /// What the act would find.
    TryRecord(
        RecordAct,
        Offset,
        oneshot::Sender<Result<RecordOutlook, ActRefused>>,
    ),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum KeyAct {
    Pause,
    Resume,
    RetryNow,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum RecordAct {
    Skip,
    DeadLetterNow,
}

/// An owner, as far as acts go.
pub(crate) trait TakesActs: Send + Sync {
    /// `false` where too many wait already.
    fn take_act(&self, act: Act) -> bool;
}

/// A partition.
type Place = (Arc<str>, i32);

/// The owners of the partitions that are assigned.
#[derive(Default)]
pub(crate) struct ActTakers {
    by_place: DashMap<Place, (Epoch, Arc<dyn TakesActs>)>,
}

impl ActTakers {
    pub(crate) fn join(&self, place: Place, epoch: Epoch, taker: Arc<dyn TakesActs>) {
        self.by_place.insert(place, (epoch, taker));
    }

    /// The next epoch of the partition may have joined already.
    pub(crate) fn leave(&self, place: &Place, epoch: Epoch) {
        self.by_place
            .remove_if(place, |_, (joined, _)| *joined == epoch);
    }

    pub(crate) fn find(&self, topic: &str, partition: i32) -> Option<Arc<dyn TakesActs>> {
        let found = self.by_place.get(&(topic.into(), partition))?;
        Some(found.1.clone())
    }

    /// All, or those of one topic.
    pub(crate) fn of(&self, topic: Option<&str>) -> Vec<Arc<dyn TakesActs>> {
        self.by_place
            .iter()
            .filter(|entry| topic.is_none_or(|topic| *entry.key().0 == *topic))
            .map(|entry| entry.value().1.clone())
            .collect()
    }
}

impl fmt::Debug for ActTakers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ActTakers")
    }
}
