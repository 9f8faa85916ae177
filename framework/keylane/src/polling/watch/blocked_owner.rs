//! Blocked owners cannot report themselves: the polling thread does.

use std::sync::atomic::Ordering;
use std::time::Duration;

use keylane_core::BlockedOwner;

use crate::config::Watchdog;
use crate::polling::partitions::Assigned;

/// An owner that has work and makes no pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocked {
    pub(super) lasting: Duration,
    /// The owner polls an attempt: a processor blocks its thread.
    pub(super) by_its_attempt: bool,
}

/// Checks whether the owner makes passes; to be called about once a second.
pub(super) fn look(assigned: &mut Assigned, watchdog: &Watchdog) -> Option<Blocked> {
    let (passes, polled) = (
        assigned.progress.passes.load(Ordering::Relaxed),
        assigned.progress.polled(),
    );
    let threshold = if polled.is_some() {
        watchdog.slow_attempt
    } else {
        watchdog.stalled_after
    };
    let has_work = assigned.pending_records() > 0 && !assigned.has_ended();
    let now = assigned.now();
    let BlockedOwner { lasting, is_news } = assigned
        .owner_watch
        .look(passes, has_work, threshold, now)?;
    if is_news {
        let (topic, partition) = (&assigned.topic, assigned.partition);
        match polled {
            Some((offset, attempt)) => tracing::warn!(
                %topic, partition, offset, attempt, ?lasting,
                "an attempt blocks its thread, and its partition with it; work that blocks belongs into spawn_blocking"
            ),
            None => tracing::warn!(
                %topic, partition, ?lasting,
                "the partition cannot run on the tokio runtime: something blocks all of its threads"
            ),
        }
    }
    Some(Blocked {
        lasting,
        by_its_attempt: polled.is_some(),
    })
}
