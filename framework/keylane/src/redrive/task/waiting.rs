//! A task waits until it is known what became of its canary.

use std::time::{Duration, Instant};

use super::canary::CanaryWatch;
use super::executor::{Executor, LOOK_EVERY};
use super::setup::Setup;
use crate::redrive::RedriveTaskError;

/// Between two looks at the canary: after the first one, and at most, doubling. A look asks the
/// group's coordinator and the leader of each partition.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

impl Executor {
    pub(super) fn look_at_canary(&mut self) -> Result<(), RedriveTaskError> {
        let Some(canary) = self.record.settings.canary else {
            return Ok(());
        };
        let now = self.now();
        if now >= self.canary_at {
            self.canary_at = now + self.canary_pause;
            self.canary_pause = (2 * self.canary_pause).min(LONGEST_PAUSE);
            let seen = *self.canary_seen.get_or_insert_with(Instant::now);
            match self.watch().look() {
                Ok(outcomes) => {
                    self.canary_seen = Some(Instant::now());
                    self.run.canary(canary.verdict(outcomes));
                }
                Err(reason) if seen.elapsed() >= self.setup.connection.patience => {
                    return Err(unwatched(reason));
                }
                Err(reason) => {
                    tracing::warn!(
                        task = self.id,
                        reason,
                        "the canary's copies cannot be looked at"
                    );
                }
            }
        }
        self.follow(LOOK_EVERY)
    }

    /// Watches all copies until now.
    pub(super) fn watch(&mut self) -> &mut CanaryWatch {
        let (_, done) = self.run.counts();
        let turns = self.order.turns();
        let done = usize::try_from(done).map_or(turns.len(), |done| done.min(turns.len()));
        self.canary.get_or_insert_with(|| {
            let Setup {
                connection, topic, ..
            } = &self.setup;
            CanaryWatch::new(
                connection,
                topic,
                &self.record,
                &turns[..done],
                &self.redrive,
            )
        })
    }
}

pub(super) fn unwatched(reason: String) -> RedriveTaskError {
    let reason = format!(
        "what becomes of the canary cannot be seen: {reason}; this client needs READ on the target topics and \
         DESCRIBE on the group"
    );
    RedriveTaskError::Transaction { reason }
}
