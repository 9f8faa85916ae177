//! The task that deletes what is no longer needed.

use std::time::Duration;

use keylane::SubscriptionHandle;
use keylane::subscription::{CommittedLog, GroupPositions};

use super::entry::log_name;
use super::error::InboxError;
use super::store::BATCH;
use super::table::Inbox;
use crate::database::Database;

/// Statements of a round that delete from one partition. What is left is deleted in the next one.
const MOST_BATCHES: u32 = 200;

impl<D: Database> Inbox<D> {
    /// Deletes, until the subscription ends, what no attempt can need: entries that are older than
    /// [`wait`](super::InboxBuilder::wait) and whose record has been below the brokers' position for as
    /// long, and messages whose time is over. Without it the table grows without a bound.
    ///
    /// Call it in each member; one of them makes a round at a time. Entries of topics that the
    /// subscription does not read are not deleted.
    ///
    /// # Errors
    /// [`InboxError::WaitTooShort`] where an attempt or a retry of the subscription may last longer than
    /// entries protect; a subscription of another group or without brokers.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn sweep(&self, subscription: &SubscriptionHandle) -> Result<(), InboxError> {
        if subscription.group() != self.group() {
            return Err(InboxError::OtherGroup {
                inbox: self.group().to_owned(),
                subscription: subscription.group().to_owned(),
            });
        }
        let Some(positions) = subscription.group_positions() else {
            return Err(InboxError::NoBrokers);
        };
        let times = &self.settings.times;
        let (longest, attempt) = (positions.longest_retry(), positions.attempt_timeout());
        if let Some(needed) = times.needed_for(longest, attempt) {
            return Err(InboxError::WaitTooShort {
                group: self.group().to_owned(),
                wait: times.wait(),
                needed,
            });
        }
        let (inbox, subscription) = (self.clone(), subscription.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = subscription.ended() => {}
                () = inbox.rounds(positions) => {}
            }
        });
        Ok(())
    }

    async fn rounds(&self, mut positions: GroupPositions) {
        let every = self.settings.sweep_every.max(Duration::from_millis(50));
        loop {
            tokio::time::sleep(every).await;
            positions = match self.round(positions, every).await {
                Some(positions) => positions,
                None => return,
            };
        }
    }

    /// `None` where the runtime ends.
    async fn round(
        &self,
        mut positions: GroupPositions,
        every: Duration,
    ) -> Option<GroupPositions> {
        let (settings, group) = (&*self.settings, self.group());
        // Of a member that looks a little early, too.
        let claimed = D::claim_sweep(&self.pool, &settings.table, group, every / 2).await;
        match claimed {
            Ok(true) => {}
            Ok(false) => return Some(positions),
            Err(error) => {
                tracing::warn!(%error, group, inbox = %settings.table, "the inbox cannot be swept; it grows meanwhile");
                return Some(positions);
            }
        }
        // librdkafka's calls block.
        let reading = tokio::task::spawn_blocking(move || {
            let read = positions.read();
            (positions, read)
        });
        let (positions, read) = reading.await.ok()?;
        let read = match read {
            Ok((read, missing)) => {
                for error in missing {
                    tracing::warn!(%error, group, "entries of a topic are not swept");
                }
                read
            }
            Err(error) => {
                tracing::warn!(%error, group, "the brokers' positions cannot be read, and the inbox is not swept");
                return Some(positions);
            }
        };
        if let Err(error) = self.sweep_by(&read).await {
            tracing::warn!(%error, group, inbox = %settings.table, "the inbox cannot be swept; it grows meanwhile");
        }
        Some(positions)
    }

    /// One round, with what the brokers have committed. Returns how many rows it deleted.
    #[doc(hidden)]
    pub async fn sweep_by(&self, read: &[CommittedLog]) -> Result<u64, InboxError> {
        let (settings, pool) = (&*self.settings, &self.pool);
        let (table, group) = (&settings.table, &*settings.group);
        let failed = |error| self.failed(error);
        // The longest of all members.
        let wait = D::keep_for(pool, table, group, settings.times.wait()).await;
        let wait = wait.map_err(failed)?;
        let mut swept = 0;
        for at in read {
            // A commit that names no log, of another program's reset, may be about another one.
            let is_named = at
                .committed
                .is_some_and(|(_, log)| log.is_some() || at.topic_id.is_none());
            if !is_named {
                continue;
            }
            let safe = D::note_position(pool, table, group, at, wait).await;
            let Some(safe) = safe.map_err(failed)? else {
                continue;
            };
            for _ in 0..MOST_BATCHES {
                let rows = D::sweep_below(pool, table, group, at, safe, wait).await;
                let rows = rows.map_err(failed)?;
                swept += rows;
                if rows < BATCH.unsigned_abs() {
                    break;
                }
            }
        }
        let mut named: Vec<_> = read.iter().filter(|it| it.topic_id.is_some()).collect();
        named.dedup_by_key(|it| &it.topic);
        for at in named {
            let log = log_name(at.topic_id);
            let is_old = D::note_log(pool, table, group, &at.topic, &log, wait).await;
            if is_old.map_err(failed)? {
                let rows = D::sweep_other_logs(pool, table, group, &at.topic, &log, wait).await;
                swept += rows.map_err(failed)?;
            }
        }
        let messages = D::sweep_messages(pool, table, group).await;
        swept += messages.map_err(failed)?;
        settings.series.swept(swept);
        let rows = D::rows(pool, table, group).await;
        settings.series.rows(rows.map_err(failed)?);
        Ok(swept)
    }
}
