//! The table of assigned partitions: opening, pausing, giving up.

use std::sync::Arc;
use std::time::Instant;

use keylane_core::member::{ClientPosition, CommitPoint, EpochCommits, TopicPartition};
use keylane_core::{
    About, Budget, BudgetChange, CommitContent, Epoch, Evidence, Identity, MAX_METADATA_BYTES,
    MapError, Position, Seen, commit_map,
};

use super::assigned::Assigned;
use crate::kafka::{Client, ClientError, Logs, Misplaced, NewPartition, SeekTo};
use crate::metrics::{MetricLabels, PartitionMetrics, UnreadableMetadata};
use crate::polling::settings::{OwnerFactory, PollSettings};
use crate::processing::EpochLife;
use crate::runtime::{Inbox, Opening, Progress, instance};

/// All partitions this member owns.
pub(crate) struct Assignment {
    pub(crate) partitions: Vec<Assigned>,
    /// Bytes pending over all partitions.
    pub(crate) bytes: Budget,
    last_epoch: u64,
    /// The group's name for the latest assignment.
    pub(crate) membership: Option<Arc<str>>,
    settings: Arc<PollSettings>,
    open: OwnerFactory,
    /// Epochs that have ended while somebody still works for them. Bounded: a partition starts
    /// nothing as long as one of its own is here.
    leaving: Vec<(Arc<str>, i32, Arc<EpochLife>)>,
}

impl Assignment {
    pub(crate) fn new(settings: Arc<PollSettings>, open: OwnerFactory) -> Self {
        let limit = settings.limits.pending_bytes as u64;
        Self {
            partitions: Vec::new(),
            bytes: Budget::new(limit, limit / 10 * 7),
            last_epoch: 0,
            membership: None,
            settings,
            open,
            leaving: Vec::new(),
        }
    }

    /// Opens an owner for a partition that was just assigned: a new epoch.
    pub(crate) fn open(&mut self, new: NewPartition, paused: bool) {
        // A partition cannot be assigned twice; were it, the older epoch would be the wrong one.
        self.close_now(&new.topic, new.partition);
        self.last_epoch += 1;
        let epoch = Epoch::new(self.last_epoch);
        let topic = self.settings.intern(&new.topic);
        let labels = MetricLabels {
            subscription: &self.settings.subscription,
            topic: &topic,
            partition: new.partition,
        };
        let mut metrics = PartitionMetrics::new(&labels);
        let (
            start,
            CommitContent {
                settled,
                evidence,
                leader_epoch,
                ..
            },
        ) = resume_point(&new, &mut metrics);
        let about = About {
            log: new.log,
            leader_epoch,
        };
        let named = evidence.named.offsets().len() as u64;
        let (evidence, unclean) = evidence.at_start(instance());
        let committed = new.committed.as_ref().map(|committed| committed.position);
        let start_under = committed.and_then(|committed| committed.leader_epoch);
        let opening_point = start.filter(|_| unclean).map(|start| CommitPoint {
            position: start,
            leader_epoch: start_under,
            metadata: commit_map::encode_for(
                about,
                start,
                settled.ranges(),
                &evidence,
                MAX_METADATA_BYTES,
            )
            .text,
            mark: None,
            running: false,
        });
        if unclean {
            metrics.poison_suspected(named);
            tell_of_crash(&topic, new.partition, &evidence);
        }
        let is_retry_topic = self.settings.retry_topic.as_deref() == Some(&*topic);
        tracing::info!(%topic, partition = new.partition, start = start.map(Position::get), "partition assigned");
        let predecessors = self.predecessors(&topic, new.partition);
        let (inbox, progress) = (
            Arc::new(Inbox::new(u64::from(paused), !predecessors.is_empty())),
            Arc::new(Progress::default()),
        );
        inbox.order(|orders| orders.log = new.log);
        (self.open)(Opening {
            topic: topic.clone(),
            partition: new.partition,
            epoch,
            is_retry_topic,
            start,
            start_under,
            settled,
            leader_epoch,
            evidence,
            metrics,
            inbox: inbox.clone(),
            progress: progress.clone(),
            membership: self.membership.clone(),
            predecessors,
        });
        let limits = &self.settings.limits;
        let budgets = (
            Budget::new(
                limits.pause_at_records as u64,
                limits.resume_at_records as u64,
            ),
            Budget::new(
                limits.settled_ahead as u64,
                limits.settled_ahead as u64 / 10 * 7,
            ),
        );
        let place = TopicPartition::new(topic.clone(), new.partition);
        let mut commits = EpochCommits::new(place, epoch, committed);
        if let Some(point) = opening_point {
            commits.open_after_crash(point);
        }
        let mut assigned =
            Assigned::new(commits, inbox, progress, is_retry_topic, &labels, budgets);
        (assigned.held, assigned.pauses) = (paused, u64::from(paused));
        assigned.stale_end = new.stale_end;
        (assigned.start, assigned.reset) = (start.map(Position::get), self.settings.reset);
        assigned.beginning = new.beginning;
        // The client was told before the assignment.
        assigned.fetch_paused = new.beginning.is_some();
        assigned.identity = Identity::new(new.log);
        if let Some(left) = new.left {
            tracing::warn!(
                topic = %assigned.topic, partition = assigned.partition, left = left.position.get(),
                "the topic was deleted and made anew: what was committed is about a topic that is gone; reading from the beginning"
            );
            assigned.read_metrics.topic_made_anew();
            assigned.commits.leave(left);
        }
        self.partitions.push(assigned);
    }

    /// Begins a new epoch for every partition whose log went back: what was settled at offsets of
    /// the old log says nothing about the new one's. It begins at the lower one of the oldest
    /// unsettled record and the place the log went back to, so that nothing still pending is passed
    /// over.
    pub(crate) fn reopen_rewound(
        &mut self,
        client: &Client,
        paused: bool,
    ) -> Result<bool, ClientError> {
        let rewound: Vec<_> = (self.partitions.iter())
            .filter_map(|p| {
                Some((
                    p.topic.clone(),
                    p.partition,
                    p.rewound?,
                    p.progress.figures().snapshot.watermark,
                ))
            })
            .collect();
        for (topic, partition, offset, watermark) in &rewound {
            let start = watermark.map_or(*offset, |watermark| watermark.get().min(*offset));
            tracing::warn!(
                %topic, partition, start,
                "the log went back: it was cut, or the topic was made anew; reading on from where it is now"
            );
            let mut old = self.close_now(topic, *partition);
            if let Some(old) = &mut old {
                old.read_metrics.log_cut();
            }
            client.seek(topic, *partition, SeekTo::Position(Position::new(start)))?;
            // The same log, as far as is known.
            let log = old.as_ref().and_then(|old| old.identity.log());
            let new = NewPartition {
                topic: topic.to_string(),
                partition: *partition,
                committed: None,
                log,
                left: None,
                stale_end: None,
                beginning: None,
            };
            self.open(new, paused || old.as_ref().is_some_and(|old| old.held));
            if let (Some(new), Some(old)) = (self.find(topic, *partition), old) {
                new.commits.follow(&old.commits);
                (new.identity, new.fetch_paused) = (old.identity, old.fetch_paused);
            }
        }
        Ok(!rewound.is_empty())
    }

    /// Compares what is read with what the brokers say is there. Where a topic was made anew the
    /// epochs that are about the old one end: what runs may finish until `deadline`, nothing else
    /// starts. Whether there are any.
    pub(crate) fn compare_logs(&mut self, logs: &Logs, deadline: Instant) -> bool {
        let mut made_anew = false;
        for (topic, log) in logs {
            // One that is being given up is left to its next owner, who sees the same in the
            // commit.
            let read = self
                .partitions
                .iter_mut()
                .filter(|p| *p.topic == **topic && p.anew.is_none() && !p.revoking);
            for partition in read {
                match partition.identity.see(*log) {
                    Seen::Same | Seen::Doubtful => {}
                    Seen::Learned => partition.inbox.order(|orders| orders.log = Some(*log)),
                    Seen::Another => {
                        partition.anew = Some((*log, deadline));
                        partition.batch.clear();
                        partition.batch_bytes = 0;
                        partition.inbox.order(|orders| orders.drain = true);
                        made_anew = true;
                    }
                }
            }
        }
        made_anew
    }

    /// Begins the new epochs of topics that were made anew, where the old one has ended, at the
    /// beginning of the log.
    pub(crate) fn reopen_anew(
        &mut self,
        client: &Client,
        paused: bool,
    ) -> Result<bool, ClientError> {
        let now = Instant::now();
        let due: Vec<_> = (self.partitions.iter())
            .filter(|p| !p.revoking)
            .filter_map(|p| {
                Some((
                    p.topic.clone(),
                    p.partition,
                    p.anew.filter(|anew| p.has_ended() || now >= anew.1)?.0,
                ))
            })
            .collect();
        for (topic, partition, log) in &due {
            let Some(mut old) = self.close_now(topic, *partition) else {
                continue;
            };
            let dropped = old.pending_records();
            old.read_metrics.handed_back(dropped);
            if dropped > 0 {
                tracing::warn!(%topic, partition, dropped, "records of the deleted topic were left unsettled; they are not read again");
            }
            client.seek(topic, *partition, SeekTo::Beginning)?;
            let left = old.commits.latest().unwrap_or(ClientPosition::BEGINNING);
            let (name, left) = (topic.to_string(), Some(left));
            self.open(
                NewPartition {
                    topic: name,
                    partition: *partition,
                    committed: None,
                    log: Some(*log),
                    left,
                    stale_end: None,
                    beginning: None,
                },
                paused || old.held,
            );
            if let Some(new) = self.find(topic, *partition) {
                new.fetch_paused = old.fetch_paused;
            }
        }
        Ok(!due.is_empty())
    }

    /// Puts the client's position back to the record that an error was reported for. Without
    /// waiting for its answer: a seek that is refused is of a partition that is being given up.
    pub(crate) fn put_back(&mut self, client: &Client, misplaced: &Misplaced) {
        let Misplaced {
            topic,
            partition,
            offset,
        } = misplaced;
        let Some(assigned) = self.find(topic, *partition) else {
            return;
        };
        // Where records from there on were taken out already, the position is right. One that has
        // no position yet gets it later.
        if assigned.beginning.is_some() || assigned.next_offset.is_some_and(|next| next > *offset) {
            return;
        }
        let to = SeekTo::Position(Position::new(*offset));
        if let Err(error) = client.seek(topic, *partition, to) {
            tracing::warn!(%error, topic, partition, offset, "the client refused to go back to a record it could not fetch");
        }
    }

    pub(crate) fn find(&mut self, topic: &str, partition: i32) -> Option<&mut Assigned> {
        self.partitions
            .iter_mut()
            .find(|p| p.partition == partition && &*p.topic == topic)
    }

    /// Ends the epoch of a partition at once.
    pub(crate) fn close_now(&mut self, topic: &str, partition: i32) -> Option<Assigned> {
        let place = self
            .partitions
            .iter()
            .position(|p| p.partition == partition && &*p.topic == topic)?;
        let closed = self.partitions.swap_remove(place);
        closed.inbox.end();
        self.leaving.retain(|(_, _, life)| !life.is_gone());
        self.leaving.push((
            closed.topic.clone(),
            closed.partition,
            closed.inbox.life().clone(),
        ));
        Some(closed)
    }

    /// Earlier epochs of a partition that somebody in this process still works for.
    fn predecessors(&self, topic: &str, partition: i32) -> Vec<Arc<EpochLife>> {
        let same = self
            .leaving
            .iter()
            .filter(|(t, p, life)| *p == partition && &**t == topic && !life.is_gone());
        same.map(|(_, _, life)| life.clone()).collect()
    }

    /// Pauses and resumes fetching by the limits (guarantee G6) and the user's wish; `pause_all`
    /// for a shutdown. Returns the places of those resumed, whose fetchers may have gone to sleep.
    pub(crate) fn update_pauses(&mut self, client: &Client, pause_all: bool) -> Vec<usize> {
        let pending_bytes: u64 = self.partitions.iter().map(Assigned::pending_bytes).sum();
        match self.bytes.update(pending_bytes) {
            Some(BudgetChange::Pause) => tracing::warn!(
                pending_bytes,
                limit = self.settings.limits.pending_bytes,
                "all partitions pause: the byte limit is reached; parked records, and those that wait for their due time, count"
            ),
            Some(BudgetChange::Resume) => {
                tracing::info!(pending_bytes, "below the byte limit again")
            }
            None => {}
        }
        let all = pause_all || self.bytes.is_paused();
        let (mut pause, mut resume) = (Vec::new(), Vec::new());
        for (place, partition) in self.partitions.iter_mut().enumerate() {
            let searching = partition.beginning.is_some();
            let wanted = partition.is_over_limit()
                || all
                || partition.held
                || partition.revoking
                || searching;
            match (wanted, partition.fetch_paused) {
                (true, false) => pause.push(place),
                (false, true) => resume.push(place),
                _ => {}
            }
        }
        self.tell(client, &pause, true);
        self.tell(client, &resume, false);
        resume.retain(|&place| !self.partitions[place].fetch_paused);
        resume
    }

    fn tell(&mut self, client: &Client, places: &[usize], paused: bool) {
        if places.is_empty() {
            return;
        }
        let partitions = places.iter().map(|&place| {
            let partition = &self.partitions[place];
            (&*partition.topic, partition.partition)
        });
        let answer = if paused {
            client.pause(partitions)
        } else {
            client.resume(partitions)
        };
        if let Err(error) = answer {
            // Tried again by the next pass: what the client was told is noted only when it has
            // taken it.
            tracing::warn!(%error, paused, "the client refused to pause or resume");
            return;
        }
        for &place in places {
            let partition = &mut self.partitions[place];
            partition.fetch_paused = paused;
            partition.read_metrics.set_paused(paused, Instant::now());
        }
    }
}

/// The committed position and what earlier owners settled above it. Metadata that is not ours, or
/// damaged, is counted and treated as empty: that only delivers more again.
fn resume_point(
    new: &NewPartition,
    metrics: &mut PartitionMetrics,
) -> (Option<Position>, CommitContent) {
    let Some(committed) = &new.committed else {
        return (None, CommitContent::default());
    };
    let position = committed.position.position;
    let text = std::str::from_utf8(&committed.metadata).map_err(|_| MapError::Foreign);
    match text.and_then(|text| commit_map::decode(position, text)) {
        Ok(content) => (Some(position), content),
        Err(error) => {
            metrics.commit_metadata_unreadable(match error {
                MapError::Foreign => UnreadableMetadata::Foreign,
                MapError::Version(_) => UnreadableMetadata::Version,
                _ => UnreadableMetadata::Damaged,
            });
            tracing::warn!(topic = new.topic, partition = new.partition, %error, "the commit's metadata is ignored");
            (Some(position), CommitContent::default())
        }
    }
}

/// A process that had this partition ended without giving it up.
fn tell_of_crash(topic: &str, partition: i32, evidence: &Evidence) {
    let unclean_starts = evidence.unclean_starts;
    let isolated = unclean_starts >= keylane_core::ISOLATION_STARTS;
    let suspects: Vec<_> = evidence
        .suspects
        .iter()
        .take(5)
        .map(|suspect| (suspect.offset.get(), suspect.crashes))
        .collect();
    if isolated {
        tracing::error!(
            topic,
            partition,
            unclean_starts,
            ?suspects,
            "the process that had this partition ended without giving it up, again; its records run one at a time until the \
             one that kills is found or all are seen to be harmless"
        );
    } else {
        tracing::warn!(
            topic,
            partition,
            unclean_starts,
            ?suspects,
            "the process that had this partition ended without giving it up"
        );
    }
}
