//! Blocked owners cannot report themselves: the polling thread does.

use std::sync::atomic::Ordering;
use std::time::Duration;

use keylane_core::{BlockedOwner, Moment};

use super::assigned::Assigned;
use crate::config::Watchdog;

/// An owner that has work and makes no pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blocked {
    pub(crate) lasting: Duration,
    /// The owner polls an attempt: a processor blocks its thread.
    pub(crate) by_its_attempt: bool,
}

impl Assigned {
    /// Checks whether the owner makes passes; to be called about once a second.
    pub(crate) fn look_at_owner(&mut self, watchdog: &Watchdog) -> Option<Blocked> {
        let (passes, polled) = (
            self.progress.passes.load(Ordering::Relaxed),
            self.progress.polled(),
        );
        let threshold = if polled.is_some() {
            watchdog.slow_attempt
        } else {
            watchdog.stalled_after
        };
        let has_work = self.pending_records() > 0 && !self.has_ended();
        let now = Moment::new(self.opened_at.elapsed());
        let BlockedOwner { lasting, is_news } =
            self.owner_watch.look(passes, has_work, threshold, now)?;
        if is_news {
            let (topic, partition) = (&self.topic, self.partition);
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
}
