//! The table of assigned partitions: opening, pausing, giving up.

use std::sync::Arc;
use std::time::Instant;

use keylane_core::member::{EpochCommits, PauseOrder, PauseWish, Pauses, ReadLog, TopicPartition};
use keylane_core::{
    Budget, BudgetChange, CommitContent, Epoch, Evidence, MapError, Position, commit_map,
};

use super::assigned::Assigned;
use super::batching::Batching;
use super::steering::{Steered, Steering};
use crate::kafka::{Cached, Client, FailedFetch, NativeMessage, NewPartition, READ_LIMIT, SeekTo};
use crate::metrics::{MetricLabels, PartitionMetrics, UnreadableMetadata};
use crate::polling::settings::{OwnerFactory, PollSettings};
use crate::processing::EpochLife;
use crate::runtime::{EpochStart, Inbox, Progress, instance};
use crate::status::{Control, ControlFeed, OutageWatch};

/// All partitions this member owns.
pub(crate) struct Assignment {
    pub(crate) partitions: Vec<Assigned>,
    /// Where each stands, for what is read.
    batching: Batching,
    /// The user has paused the subscription.
    pub(crate) paused: bool,
    /// With the limit of bytes pending over all partitions.
    pub(crate) pauses: Pauses,
    last_epoch: u64,
    /// The group's name for the latest assignment.
    pub(crate) membership: Option<Arc<str>>,
    settings: Arc<PollSettings>,
    /// Present where there is a control topic.
    steering: Option<Steering>,
    open: OwnerFactory,
    /// Epochs that have ended while a task still works for them. Bounded: a partition starts
    /// nothing as long as one of its own is here.
    leaving: Vec<(Arc<str>, i32, Arc<EpochLife>)>,
}

impl Assignment {
    pub(crate) fn new(
        settings: Arc<PollSettings>,
        feed: Option<Arc<ControlFeed>>,
        open: OwnerFactory,
    ) -> Self {
        let limit = settings.limits.pending_bytes as u64;
        Self {
            partitions: Vec::new(),
            batching: Batching::new(settings.intake),
            paused: false,
            pauses: Pauses::new(Budget::new(limit, limit / 10 * 7)),
            last_epoch: 0,
            membership: None,
            settings,
            steering: feed.map(Steering::new),
            open,
            leaving: Vec::new(),
        }
    }

    /// Opens an owner for a partition that was just assigned.
    pub(crate) fn open_assigned(&mut self, new: NewPartition) {
        let steering = self.steering.as_ref();
        let steered = steering.map_or_else(Steered::default, |it| Steered::waiting_for(it.ask()));
        self.open(new, self.paused, steered);
    }

    /// Begins a new epoch. `held_by_user`: the user has paused the partition.
    pub(super) fn open(&mut self, new: NewPartition, held_by_user: bool, steered: Steered) {
        let held = held_by_user || steered.is_held();
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
        let named = evidence.named.offsets().len() as u64;
        let (evidence, unclean) = evidence.at_start(instance());
        let committed = new.committed.as_ref().map(|committed| committed.position);
        let start_under = committed.and_then(|committed| committed.leader_epoch);
        if unclean {
            metrics.poison_suspected(named);
            log_crash(&topic, new.partition, &evidence);
        }
        let is_retry_topic = self.settings.retry_topic.as_deref() == Some(&*topic);
        tracing::info!(%topic, partition = new.partition, start = start.map(Position::get), "partition assigned");
        let predecessors = self.predecessors(&topic, new.partition);
        let (inbox, progress) = (
            Arc::new(Inbox::new(u64::from(held), !predecessors.is_empty())),
            Arc::new(Progress::default()),
        );
        inbox.order(|orders| {
            orders.log = new.log;
            orders.log_is_confirmed = new.log_is_confirmed;
        });
        (self.open)(EpochStart {
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
        let commits = EpochCommits::new(place, epoch);
        let mut assigned =
            Assigned::new(commits, inbox, progress, is_retry_topic, &labels, budgets);
        (assigned.held_by_user, assigned.steered) = (held_by_user, steered);
        (assigned.held, assigned.pauses) = (held, u64::from(held));
        assigned.stale_end = new.stale_end;
        assigned.log = ReadLog::new(start, self.settings.reset, new.log, READ_LIMIT);
        assigned.log_is_confirmed = new.log_is_confirmed;
        assigned.beginning = new.beginning;
        // The client got the order before the assignment.
        assigned.fetch_paused = new.beginning.is_some();
        if let Some(left) = new.left {
            tracing::warn!(
                topic = %assigned.topic, partition = assigned.partition, left = left.get(),
                "the topic was deleted and re-created: what was committed is about a topic that is gone; reading from the beginning"
            );
            assigned.read_metrics.topic_recreated();
        }
        if let Some(steering) = &self.steering {
            steering.begin(&mut assigned);
        }
        self.partitions.push(assigned);
        self.batching.table_changed();
    }

    /// Takes one message in, for its partition's batch. It may be freed afterwards.
    pub(crate) fn take(&mut self, cached: Cached<'_>, message: &NativeMessage<'_>) {
        self.batching.take(cached, &mut self.partitions, message);
    }

    /// Puts the client's position back to the record that an error was reported for. Without
    /// waiting for its answer: a seek that is refused is of a partition that is being given up.
    pub(crate) fn put_back(&mut self, client: &Client, failed: &FailedFetch) {
        let FailedFetch {
            topic,
            partition,
            offset,
            ..
        } = failed;
        let Some(assigned) = self.find(topic, *partition) else {
            return;
        };
        // Where records from there on were taken out already, the position is right. One that has
        // no position yet gets it later.
        if assigned.beginning.is_some()
            || assigned.log.next().is_some_and(|next| next.get() > *offset)
        {
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
        self.batching.table_changed();
        closed.inbox.end();
        self.leaving.retain(|(_, _, life)| !life.is_gone());
        self.leaving.push((
            closed.topic.clone(),
            closed.partition,
            closed.inbox.life().clone(),
        ));
        Some(closed)
    }

    /// Earlier epochs of a partition that tasks of this process still work for.
    fn predecessors(&self, topic: &str, partition: i32) -> Vec<Arc<EpochLife>> {
        let same = self
            .leaving
            .iter()
            .filter(|(t, p, life)| *p == partition && &**t == topic && !life.is_gone());
        same.map(|(_, _, life)| life.clone()).collect()
    }

    /// Takes in which partitions the user or the control topic has paused. Returns whether that is
    /// news.
    pub(crate) fn hold(&mut self, control: &Control) -> bool {
        if let Some(steering) = &mut self.steering {
            steering.look(&mut self.partitions);
        }
        let mut is_news = false;
        for partition in &mut self.partitions {
            let (topic, id) = (&partition.topic, partition.partition);
            partition.held_by_user = self.paused || control.is_partition_paused(topic, id);
            is_news |= partition.set_held(partition.held_by_user || partition.steered.is_held());
        }
        if let Some(steering) = &mut self.steering {
            steering.look_whether_in_force(&self.partitions);
        }
        is_news
    }

    /// Pauses and resumes fetching by the limits (guarantee G6) and the user's wish; `pause_all`
    /// for a shutdown.
    pub(crate) fn update_pauses(
        &mut self,
        client: &Client,
        outages: &OutageWatch,
        pause_all: bool,
    ) {
        let pending_bytes: u64 = self.partitions.iter().map(Assigned::pending_bytes).sum();
        match self.pauses.begin(pending_bytes, pause_all) {
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
        let (mut pause, mut resume) = (Vec::new(), Vec::new());
        for (place, partition) in self.partitions.iter_mut().enumerate() {
            let wish = PauseWish {
                over_limit: partition.is_over_limit(outages),
                // What waits for the control topic for a moment is read: to stop and to go on costs
                // more.
                held: partition.held_by_user || partition.steered.pause.is_some(),
                revoking: partition.revoking,
                searching: partition.beginning.is_some(),
            };
            match self.pauses.order(wish, partition.fetch_paused) {
                Some(PauseOrder::Pause) => pause.push(place),
                Some(PauseOrder::Resume) => resume.push(place),
                None => {}
            }
        }
        self.order(client, &pause, true);
        self.order(client, &resume, false);
        // Their fetchers may have gone to sleep.
        let resumed = resume.into_iter().map(|place| &self.partitions[place]);
        wake(client, resumed);
    }

    /// After the answer to a rebalance: those that stay read on at once.
    pub(crate) fn wake_fetchers(&self, client: &Client) {
        wake(client, self.partitions.iter());
    }

    fn order(&mut self, client: &Client, places: &[usize], paused: bool) {
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
            // Tried again by the next pass: the order is noted only when the client has taken it.
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

fn wake<'a>(client: &Client, partitions: impl Iterator<Item = &'a Assigned>) {
    let reading = partitions.filter(|partition| !partition.fetch_paused);
    client.wake(reading.map(|partition| (&*partition.topic, partition.partition)));
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
fn log_crash(topic: &str, partition: i32, evidence: &Evidence) {
    let unclean_starts = evidence.unclean_starts;
    let suspects: Vec<_> = evidence
        .suspects
        .iter()
        .take(5)
        .map(|suspect| (suspect.offset.get(), suspect.crashes))
        .collect();
    if !suspects.is_empty() {
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
