//! New epochs of partitions that stay assigned: their log has changed, or their first position was
//! found.

use std::time::Duration;

use keylane_core::member::{CommitPoint, CommittedPosition, NextEpoch, OPENING, Sighting};
use keylane_core::{Evidence, MAX_METADATA_BYTES, Position, Step, commit_map};

use super::assigned::Assigned;
use super::assignment::Assignment;
use crate::kafka::{Client, ClientError, CommittedPoint, Logs, NewPartition, SeekTo, compare_logs};

impl Assignment {
    /// Begins a new epoch for every partition whose log has changed: it was cut, or the topic was
    /// re-created. Returns whether one was cut.
    pub(crate) fn reopen(&mut self, client: &Client) -> Result<bool, ClientError> {
        let due: Vec<_> = (self.partitions.iter())
            .filter_map(|p| Some((p.topic.clone(), p.partition, p.next_epoch()?)))
            .collect();
        for (topic, partition, next) in &due {
            let Some(mut old) = self.close_now(topic, *partition) else {
                continue;
            };
            let (to, log, left) = match *next {
                NextEpoch::From(start) => {
                    tracing::warn!(
                        %topic, partition, start = start.get(),
                        "the log went back: it was cut, or the topic was re-created; reading on from where it is now"
                    );
                    old.read_metrics.log_cut();
                    // The same log, as far as is known.
                    (SeekTo::Position(start), old.log.id(), None)
                }
                NextEpoch::Beginning(log) => {
                    old.hand_back_deleted();
                    let left = old.commits.stored().map(|stored| stored.position);
                    let left = left.or(old.log.start()).unwrap_or(Position::new(0));
                    (SeekTo::Beginning, Some(log), Some(left))
                }
            };
            client.seek(topic, *partition, to)?;
            let new = NewPartition {
                log,
                // A log that went back may be another one, whose records would pass for those of the
                // old one.
                log_is_confirmed: matches!(next, NextEpoch::Beginning(_)),
                left,
                stale_end: None,
                beginning: None,
                ..old.replacement()
            };
            self.open(new, old.held_by_user, old.steered.clone());
            if let Some(new) = self.find(topic, *partition) {
                new.fetch_paused = old.fetch_paused;
                if matches!(next, NextEpoch::From(_)) {
                    new.log.continue_from(&mut old.log);
                }
            }
        }
        Ok(due
            .iter()
            .any(|(_, _, next)| matches!(next, NextEpoch::From(_))))
    }

    /// Compares the logs that are read with the brokers' answer. Where a topic was re-created, the
    /// epochs of the old one end: what runs may finish within `drain_timeout`, nothing else starts.
    /// Returns whether there are any.
    pub(crate) fn see_logs(&mut self, logs: &Logs, drain_timeout: Duration) -> bool {
        let mut recreated = false;
        for (topic, log) in logs {
            for partition in self.partitions.iter_mut().filter(|p| *p.topic == **topic) {
                let deadline = partition.now() + drain_timeout;
                match partition.log.see(*log, partition.revoking, deadline) {
                    Sighting::Nothing => partition.confirm_log(*log),
                    Sighting::Learned(log) => {
                        partition.inbox.order(|orders| orders.log = Some(log));
                        partition.confirm_log(log);
                    }
                    Sighting::Recreated => {
                        partition.drop_batch();
                        partition.inbox.order(|orders| orders.drain = true);
                        recreated = true;
                    }
                }
            }
        }
        recreated
    }

    /// What the assignment could not find out: what is committed.
    pub(super) fn committed_is(
        &mut self,
        topic: &str,
        partition: i32,
        committed: Option<CommittedPoint>,
    ) {
        let Some(found) = self
            .find(topic, partition)
            .filter(|p| p.step() == Some(Step::AskCommitted))
        else {
            return;
        };
        if committed.is_none() {
            if let Some(beginning) = &mut found.beginning {
                beginning.committed(None);
            }
            return;
        }
        let Some(mut old) = self.close_now(topic, partition) else {
            return;
        };
        let there: Vec<_> = old
            .log
            .id()
            .map(|log| (topic.to_owned(), log))
            .into_iter()
            .collect();
        let mut new = NewPartition {
            committed,
            ..old.replacement()
        };
        compare_logs(std::slice::from_mut(&mut new), &there);
        // A topic that was re-created is read from its beginning.
        let at = new
            .committed
            .as_ref()
            .map_or(CommittedPosition::BEGINNING, |committed| committed.position);
        if let Some(beginning) = &mut new.beginning {
            beginning.committed(Some((at.position, at.leader_epoch)));
        }
        self.replace(&mut old, new);
    }

    /// Begins an epoch at a position that was just found. It is committed like a mark, with an
    /// answer.
    pub(super) fn begin_at(&mut self, topic: &str, partition: i32, position: Position) {
        if self
            .find(topic, partition)
            .is_none_or(|p| p.pending_records() > 0)
        {
            return;
        }
        let Some(mut old) = self.close_now(topic, partition) else {
            return;
        };
        if let Some(beginning) = &mut old.beginning {
            beginning.opened();
        }
        let log = old.log.id();
        let at = CommittedPosition {
            position,
            leader_epoch: None,
        };
        let committed = Some(CommittedPoint {
            position: at,
            metadata: Vec::new(),
        });
        let new = NewPartition {
            committed,
            ..old.replacement()
        };
        self.replace(&mut old, new);
        if let Some(new) = self.find(topic, partition) {
            new.progress.set_commit_point(CommitPoint {
                position,
                leader_epoch: None,
                metadata: commit_map::encode_for(
                    log,
                    position,
                    [],
                    &Evidence::default(),
                    MAX_METADATA_BYTES,
                )
                .text,
                mark: Some(OPENING),
                running: false,
            });
            new.commits.open_at_first_position();
        }
    }

    /// Opens `new` in place of `old`, which is closed.
    fn replace(&mut self, old: &mut Assigned, new: NewPartition) {
        let (topic, partition) = (old.topic.clone(), old.partition);
        self.open(new, old.held_by_user, old.steered.clone());
        if let Some(new) = self.find(&topic, partition) {
            new.fetch_paused = old.fetch_paused;
            new.log.continue_from(&mut old.log);
            new.queried = old.queried;
            new.searching_since = old.searching_since;
        }
    }

    pub(super) fn take_confirmations(&mut self) {
        for partition in self
            .partitions
            .iter_mut()
            .filter(|partition| !partition.commits.is_opening())
        {
            if let Some(beginning) = &mut partition.beginning {
                beginning.confirmed();
            }
        }
    }
}
