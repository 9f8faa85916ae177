//! When an owner publishes a commit point.

use std::time::Instant;

use keylane_core::{Mark, Position};

use super::owned::OwnedPartition;
use crate::support::clock;
use keylane_core::member::CommitPoint;

/// The commit point published last, and what it was about.
pub(crate) struct CommitPoints {
    last_mark: Option<Mark>,
    last: Option<CommitPoint>,
    last_state: PointState,
    last_at: Instant,
}

/// The parts of a commit point that show a change: the watermark, the settled-ahead count, the
/// evidence.
type PointState = (Option<Position>, usize, u64);

impl CommitPoints {
    pub(crate) fn new(owned: &OwnedPartition) -> Self {
        Self {
            last_mark: None,
            last: None,
            last_state: state(owned),
            last_at: clock::now(),
        }
    }

    /// When the next one is due at the latest; `None` where there is nothing new.
    pub(crate) fn due_at(&self, owned: &OwnedPartition) -> Option<Instant> {
        let changed = self.last_state != state(owned);
        changed.then(|| self.last_at + owned.runtime.commit_interval / 2)
    }

    /// Publishes one where it is due, or is not to be waited for.
    pub(crate) fn publish(&mut self, owned: &mut OwnedPartition, at_once: bool) {
        let due = self
            .due_at(owned)
            .is_some_and(|at| at_once || clock::now() >= at);
        let mark = owned.core.wanted_mark();
        let new_mark = mark.is_some() && mark != self.last_mark;
        let withdrawn =
            self.last.as_ref().is_some_and(|point| point.running) && !owned.core.is_marked();
        if due || new_mark || withdrawn {
            self.last_mark = mark;
            self.make(owned);
        }
    }

    /// The map is built at most twice a commit interval: half of it here and half until it
    /// is sent keep what a crash repeats within one interval. With nothing pending there is no map to
    /// build, so an idle partition reports at once.
    fn make(&mut self, owned: &mut OwnedPartition) {
        self.last_state = state(owned);
        self.last_at = clock::now();
        let metadata = owned.core.commit_metadata(keylane_core::MAX_METADATA_BYTES);
        if metadata.truncated {
            owned.metrics.commit_metadata_truncated();
        }
        let Some(watermark) = owned.core.watermark() else {
            return;
        };
        let point = CommitPoint {
            position: watermark,
            leader_epoch: owned.core.position_epoch(),
            metadata: metadata.text,
            mark: owned.core.wanted_mark(),
            running: owned.core.is_marked(),
        };
        if self.last.as_ref() != Some(&point) {
            if let Some(observer) = &owned.runtime.observer {
                let (topic, partition) = owned.name();
                observer.committable(topic, partition, &point);
            }
            self.last = Some(point.clone());
            owned.progress.set_commit_point(point);
        }
    }
}

fn state(owned: &OwnedPartition) -> PointState {
    let core = &owned.core;
    (
        core.watermark(),
        core.settled_ahead(),
        core.evidence_version(),
    )
}
