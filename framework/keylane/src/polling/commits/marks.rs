//! Commits that have to be on the broker before records start: the marks of crash-safe poison
//! detection.
//!
//! All partitions' wanted marks go out together, one commit at a time, and the owners are told when
//! the broker has them. Cost when nothing crashes: one commit per assignment. While the coordinator
//! is away starts wait: those of partitions that have not crashed for
//! [`keylane_core::MARK_PATIENCE`] at most, others as long as it takes. Polling goes on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keylane_core::Mark;
use rdkafka::error::RDKafkaErrorCode;

use super::commit_ids::CommitIds;
use crate::kafka::Client;
use crate::polling::partitions::Assigned;
use crate::runtime::Inbox;

/// How long after a refusal the next try waits.
const AGAIN: Duration = Duration::from_millis(100);
/// Refusals for this long are a trouble. Rebalances and coordinators that move refuse for a moment.
const LASTING: Duration = Duration::from_secs(5);

pub(crate) struct Marks {
    /// The commit under way, and what it was sent for; empty where only for its answer.
    under_way: Option<(u64, Vec<Sent>)>,
    proof: Proof,
    again_at: Option<Instant>,
    /// Since when all tries have been refused.
    refused_since: Option<Instant>,
    /// The latest refusal of a series that lasts, until it is taken.
    lasting_refusal: Option<RDKafkaErrorCode>,
    /// Some topic was refused: one topic at a time, this one last.
    by_topic: bool,
    topic: Option<Arc<str>>,
}

/// Of membership: brokers take a commit from members only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    None,
    /// The next commit is to bring it. One that is under way already may have been answered long
    /// ago.
    Wanted,
    UnderWay,
    Given,
}

/// What was committed for one epoch of a partition. The inbox is the epoch's own: a late answer
/// reaches nobody else.
struct Sent {
    topic: Arc<str>,
    partition: i32,
    mark: Mark,
    inbox: Arc<Inbox>,
}

impl Marks {
    pub(crate) fn new() -> Self {
        Self {
            under_way: None,
            proof: Proof::None,
            again_at: None,
            refused_since: None,
            lasting_refusal: None,
            by_topic: false,
            topic: None,
        }
    }

    /// Whether answers are waited for.
    pub(crate) fn is_waiting(&self) -> bool {
        self.under_way.is_some() || self.again_at.is_some() || self.proof != Proof::None
    }

    pub(crate) fn ask_for_proof(&mut self) {
        self.proof = Proof::Wanted;
    }

    pub(crate) fn forget_proof(&mut self) {
        self.proof = Proof::None;
    }

    pub(crate) fn take_proof(&mut self) -> bool {
        let given = self.proof == Proof::Given;
        if given {
            self.proof = Proof::None;
        }
        given
    }

    /// What commits have been refused with for some seconds; once for each refusal.
    pub(crate) fn take_lasting_refusal(&mut self) -> Option<RDKafkaErrorCode> {
        self.lasting_refusal.take()
    }

    /// Takes in the answer to a commit. `Err` where the metadata is too large for the broker.
    pub(crate) fn answered(
        &mut self,
        id: u64,
        answer: Result<(), RDKafkaErrorCode>,
        partitions: &mut [Assigned],
    ) -> Result<(), TooLarge> {
        let Some((_, sent)) = self.under_way.take_if(|(under_way, _)| *under_way == id) else {
            return Ok(());
        };
        if self.proof == Proof::UnderWay {
            // A rebalance under way refuses the commit, but to a member.
            let is_member = matches!(answer, Ok(()) | Err(RDKafkaErrorCode::RebalanceInProgress));
            self.proof = if is_member {
                Proof::Given
            } else {
                Proof::Wanted
            };
        }
        match answer {
            Ok(()) => {
                self.refused_since = None;
                sent.into_iter().for_each(|sent| sent.confirm(partitions));
                self.by_topic = partitions.iter().any(|partition| partition.opening_refused);
            }
            Err(RDKafkaErrorCode::OffsetMetadataTooLarge) => return Err(TooLarge),
            Err(error) => {
                if is_about_a_topic(error) {
                    self.refused(&sent, partitions);
                }
                self.failed(error);
            }
        }
        Ok(())
    }

    /// Commits every mark that is wanted and not confirmed, with the partitions' stored points.
    ///
    /// What was found at the opening goes first, alone: before it is on the broker nothing may run
    /// that could kill, or the next start would find the same crash again: in the logs, in the
    /// metrics, and with what it named. Openings of a topic whose commits are refused, which may
    /// last for days, are not waited for by others.
    pub(crate) fn send(&mut self, client: &Client, partitions: &[Assigned], ids: &mut CommitIds) {
        if self.under_way.is_some() || self.again_at.is_some_and(|again| Instant::now() < again) {
            return;
        }
        self.again_at = None;
        let opening = partitions
            .iter()
            .any(|partition| partition.opening && !partition.opening_refused);
        let wanted = partitions
            .iter()
            .filter(|partition| partition.opening || !opening);
        let mut wanted: Vec<_> = wanted
            .filter_map(|partition| partition.unconfirmed_mark().zip(Some(partition)))
            .collect();
        // Where no mark is wanted any commit will do: the same once more.
        let again = if wanted.is_empty() && self.proof == Proof::Wanted {
            partitions
        } else {
            &[]
        };
        let has_point = |partition: &&Assigned| partition.stored.is_some();
        let turn = self.turn(
            wanted
                .iter()
                .map(|(_, partition)| *partition)
                .chain(again.iter().filter(has_point)),
        );
        let has_turn =
            |partition: &Assigned| turn.as_ref().is_none_or(|topic| *topic == partition.topic);
        wanted.retain(|(_, partition)| has_turn(partition));
        let again = again.iter().filter(|partition| has_turn(partition));
        let points = wanted
            .iter()
            .map(|(_, partition)| *partition)
            .chain(again)
            .filter_map(|partition| {
                Some((
                    &*partition.topic,
                    partition.partition,
                    partition.stored.as_ref()?,
                ))
            });
        let points: Vec<_> = points.collect();
        if points.is_empty() {
            if self.proof == Proof::Wanted {
                self.proof = Proof::Given;
            }
            return;
        }
        let id = ids.next();
        if let Err(error) = client.commit_for_answer(id, points.into_iter()) {
            return self.failed(error);
        }
        if self.proof == Proof::Wanted {
            self.proof = Proof::UnderWay;
        }
        let wanted = wanted.into_iter();
        let sent = wanted.map(|(mark, partition)| Sent {
            topic: partition.topic.clone(),
            partition: partition.partition,
            mark,
            inbox: partition.inbox.clone(),
        });
        self.under_way = Some((id, sent.collect()));
    }

    /// The broker takes no metadata at all: work goes on without protection.
    pub(crate) fn give_up(&mut self, partitions: &mut [Assigned]) {
        // A first position is more than a mark: it is committed without metadata.
        for partition in partitions
            .iter_mut()
            .filter(|partition| partition.beginning.is_none())
        {
            if let Some(mark) = partition.unconfirmed_mark() {
                partition.confirm(mark);
                partition
                    .inbox
                    .order(|orders| orders.marked = orders.marked.max(mark.get()));
            }
        }
    }

    /// Of the topics of these partitions the one that comes after the last. `None` where all go
    /// together.
    fn turn<'a>(&mut self, partitions: impl Iterator<Item = &'a Assigned>) -> Option<Arc<str>> {
        if !self.by_topic {
            return None;
        }
        let topics: BTreeSet<&Arc<str>> = partitions.map(|partition| &partition.topic).collect();
        let next = topics
            .iter()
            .find(|topic| self.topic.as_ref().is_none_or(|last| **topic > last));
        self.topic = next.or(topics.first()).map(|topic| Arc::clone(topic));
        self.topic.clone()
    }

    /// The answer to a commit of several topics does not say which was refused: librdkafka puts the
    /// error of one in place of all others.
    fn refused(&mut self, sent: &[Sent], partitions: &mut [Assigned]) {
        self.by_topic = true;
        let Some(first) = sent
            .first()
            .filter(|first| sent.iter().all(|sent| sent.topic == first.topic))
        else {
            return;
        };
        for partition in partitions
            .iter_mut()
            .filter(|partition| partition.topic == first.topic)
        {
            partition.opening_refused = partition.opening;
        }
    }

    fn failed(&mut self, error: RDKafkaErrorCode) {
        self.again_at = Some(Instant::now() + AGAIN);
        let began = self.refused_since.is_none();
        let since = *self.refused_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= LASTING {
            self.lasting_refusal = Some(error);
        }
        if began {
            tracing::warn!(%error, "a commit that starts wait for is not taken: a mark against poison records, or a proof of membership");
        }
    }
}

impl Sent {
    fn confirm(self, partitions: &mut [Assigned]) {
        let epoch = partitions
            .iter_mut()
            .find(|partition| Arc::ptr_eq(&partition.inbox, &self.inbox));
        if let Some(partition) = epoch {
            debug_assert!(partition.partition == self.partition && partition.topic == self.topic);
            partition.confirm(self.mark);
        }
        self.inbox
            .order(|orders| orders.marked = orders.marked.max(self.mark.get()));
    }
}

/// Whether a refusal says nothing of other topics.
fn is_about_a_topic(error: RDKafkaErrorCode) -> bool {
    matches!(
        error,
        RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::UnknownTopicOrPartition
    )
}

/// `offset.metadata.max.bytes` of the broker is smaller than what was written.
#[derive(Debug)]
pub(crate) struct TooLarge;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::CommitPoint;
    use crate::metrics::MetricLabels;
    use crate::polling::commits::Commits;
    use crate::polling::partitions::OPENING;
    use crate::runtime::Progress;
    use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};

    const PATIENCE: Duration = Duration::from_secs(30);

    /// With an opening, which is stored.
    fn opening(topic: &str) -> Assigned {
        let labels = MetricLabels {
            subscription: "s",
            topic,
            partition: 0,
        };
        let budgets = (
            keylane_core::Budget::new(10, 7),
            keylane_core::Budget::new(10, 7),
        );
        let (inbox, progress) = (
            Arc::new(Inbox::new(0, false)),
            Arc::new(Progress::default()),
        );
        let mut partition =
            Assigned::new(topic.into(), 0, inbox, progress, false, &labels, budgets);
        partition.opening = true;
        partition.stored = Some(point(OPENING));
        partition
    }

    fn point(mark: Mark) -> CommitPoint {
        CommitPoint {
            position: 3,
            leader_epoch: None,
            metadata: String::new(),
            mark: Some(mark),
            running: false,
        }
    }

    fn client_of_tasks() -> (EmbeddedBroker, Client) {
        let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).expect("it starts");
        broker
            .create_topic("tasks", 1)
            .expect("there is no such topic");
        let client = Client::for_tests(&broker, &[]);
        (broker, client)
    }

    /// Starts wait for it, and the client, which commits nothing meanwhile, would report nothing.
    #[test]
    fn a_refusal_that_lasts_is_reported_and_one_for_a_moment_is_not() {
        let (_broker, client) = client_of_tasks();
        let mut commits = Commits::new();
        let mut partitions = [opening("refused")];
        let control = client.control();
        let began = Instant::now();
        while control.status().troubles.is_empty() {
            assert!(
                began.elapsed() < PATIENCE,
                "not within {PATIENCE:?}: a trouble"
            );
            commits.mark(&client, &mut partitions);
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(began.elapsed() >= LASTING, "at once");
        assert!(
            control.status().troubles[0]
                .message
                .contains("cannot commit offsets")
        );
    }

    /// The mock refuses commits of topics that it does not have, as a broker those that an ACL
    /// forbids.
    #[test]
    fn a_topic_whose_commits_are_refused_keeps_no_other_from_its_opening_and_marks() {
        let (_broker, client) = client_of_tasks();
        let (mut marks, mut ids) = (Marks::new(), CommitIds::default());
        let mut partitions = [opening("refused"), opening("tasks")];
        let mut until =
            |partitions: &mut [Assigned; 2], what: &str, is_so: fn(&[Assigned; 2]) -> bool| {
                let deadline = Instant::now() + PATIENCE;
                while !is_so(partitions) {
                    assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
                    while let Some(answer) = client.commit_answer() {
                        let taken = marks.answered(answer.id, answer.result, partitions);
                        assert!(taken.is_ok(), "too large");
                    }
                    marks.send(&client, partitions, &mut ids);
                    std::thread::sleep(Duration::from_millis(2));
                }
            };
        until(&mut partitions, "its opening is taken", |partitions| {
            !partitions[1].opening
        });
        assert!(partitions[0].opening);
        partitions[1].stored = Some(point(Mark::new(1)));
        until(&mut partitions, "its mark is taken", |partitions| {
            partitions[1].unconfirmed_mark().is_none()
        });
        assert_eq!(
            partitions[0].unconfirmed_mark(),
            Some(OPENING),
            "it is tried again"
        );
    }
}
