//! Why partitions are not read: takes the core's answer, and warns the operator where records that
//! are not due are the cause.

use std::time::Duration;

use keylane_core::{Budget, EpisodeNews, Fill, LimitsSeen, PausedBy, RecordState, Snapshot};

use crate::polling::partitions::{Assigned, Assignment};
use crate::status::OwnerFigures;

/// What all partitions have in common.
#[derive(Clone, Copy)]
pub(crate) struct Common {
    bytes: (Budget, Fill),
    draining: bool,
}

impl Common {
    pub(crate) fn of(assignment: &Assignment, draining: bool) -> Self {
        let not_due = |partition: &Assigned| partition.progress.figures().snapshot.not_due_bytes;
        let partitions = &assignment.partitions;
        let fill = Fill {
            level: partitions.iter().map(Assigned::pending_bytes).sum(),
            not_due: partitions.iter().map(not_due).sum(),
        };
        Self {
            bytes: (assignment.pauses.bytes(), fill),
            draining,
        }
    }
}

pub(super) fn paused_by(
    assigned: &Assigned,
    common: &Common,
    figures: &OwnerFigures,
) -> Option<PausedBy> {
    if assigned.steered.waits() {
        return Some(PausedBy::Control);
    }
    if !assigned.fetch_paused {
        return assigned
            .start_question
            .is_unanswered()
            .then_some(PausedBy::NoPosition);
    }
    if assigned.held_by_user {
        return Some(PausedBy::User);
    }
    if assigned.steered.pause.is_some() {
        return Some(PausedBy::Control);
    }
    if assigned.revoking || common.draining {
        return Some(PausedBy::HandOver);
    }
    if assigned.beginning.is_some() {
        return Some(PausedBy::NoPosition);
    }
    let records = Fill {
        level: assigned.pending_records(),
        not_due: figures.snapshot.not_due,
    };
    let oldest_is_not_due = figures
        .oldest
        .as_ref()
        .is_some_and(|oldest| oldest.state == RecordState::NotDue);
    let limits = LimitsSeen {
        records: (assigned.limits.records, records),
        bytes: common.bytes,
        ahead: assigned.limits.ahead,
        oldest_is_not_due,
    };
    limits.paused_by()
}

/// Logs once when records that are not due begin to keep the partition from being read, and
/// once when that has passed.
pub(super) fn report_not_due(
    assigned: &mut Assigned,
    paused_by: Option<PausedBy>,
    snapshot: &Snapshot,
) {
    let now = assigned.now();
    let (topic, partition) = (&assigned.topic, assigned.partition);
    match assigned.not_due_episode.look(paused_by, now) {
        None => {}
        Some(EpisodeNews::Begins) => tracing::warn!(
            %topic, partition, pending = snapshot.pending, not_due = snapshot.not_due,
            "reading is paused: records that are not due yet fill the limits, and nothing behind them is read until \
             they are due; write delayed records to a topic of their own"
        ),
        Some(EpisodeNews::Ends { lasted }) => {
            let lasted = Duration::from_secs(lasted.as_secs());
            tracing::info!(%topic, partition, ?lasted, "records that are not due no longer keep the partition from being read");
        }
    }
}
