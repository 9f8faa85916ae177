//! The consumer and all its queues: what the polling thread uses of rdkafka.

use std::ffi::CStr;
use std::time::Duration;

use keylane_core::member::TopicPartition;
use keylane_core::member::{CommitId, CommitPoint};
use keylane_core::{LeaderEpoch, Position};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::callbacks::{Context, is_looked_up};
use super::client_error::ClientError;
use super::commit_queue::{CommitAnswer, CommitQueue};
use super::config::creation_error;
use super::events::{CommittedPoint, GroupEvent};
use super::fetch_queue::FetchQueue;
use super::fetcher_wakeup::FetcherWakeup;
use super::lists::{list, list_with_points};
use super::message::NativeMessage;
use super::native::{self, CachedRange};
use super::read::{Failure, READ_LIMIT, Read};
use super::reader::Reader;
use super::refusal::CommitRefused;
use super::topic_ids::{Answer, Inquiry};
use crate::config::Reading;
use crate::status::SharedLease;

/// The consumer of one subscription. Owned by the polling thread.
///
/// What librdkafka gave out has to be given back before the client closes, or closing hangs. This
/// struct owns both, and its fields are dropped in their order.
pub(crate) struct Client {
    reader: Reader,
    commits: CommitQueue,
    wakeup: FetcherWakeup,
    /// The question for topic ids that is under way.
    topic_ids: Option<Inquiry>,
    /// After everything that has a queue.
    consumer: BaseConsumer<Context>,
}

/// Where a partition is read on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SeekTo {
    /// The first record that is there.
    Beginning,
    Position(Position),
}

/// A position to be set, see [`Client::seek_all`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct PositionToSet<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    pub(crate) position: Position,
    /// The leader's epoch whose end in the log is queried first.
    pub(crate) leader_epoch: Option<LeaderEpoch>,
}

/// What is committed for one partition; `None` where nothing is.
pub(crate) struct CommittedAnswer {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) committed: Option<CommittedPoint>,
}

/// The client's own state of logs, without a request to a broker.
#[derive(Clone, Copy)]
pub(crate) struct Cached<'a>(&'a BaseConsumer<Context>);

impl Cached<'_> {
    /// Nothing before the first fetch; frozen while the partition is paused.
    pub(crate) fn range(self, topic: &CStr, partition: i32) -> CachedRange {
        native::cached_range(self.0, topic, partition)
    }
}

impl Client {
    /// Creates the consumer and subscribes it to `topics`.
    pub(crate) fn subscribe(
        config: &ClientConfig,
        reading: Reading,
        context: Context,
        topics: &[&str],
    ) -> Result<Self, String> {
        let consumer: BaseConsumer<Context> = config
            .create_with_context(context)
            .map_err(|error| creation_error(error).to_string())?;
        let client = Self::new(consumer, reading);
        client
            .consumer
            .subscribe(topics)
            .map_err(|error| error.to_string())?;
        Ok(client)
    }

    fn new(mut consumer: BaseConsumer<Context>, reading: Reading) -> Self {
        let reader = match reading {
            Reading::Batched => {
                let forwarding = consumer.context().forwarding().clone();
                Reader::Batched(FetchQueue::new(&mut consumer, forwarding, READ_LIMIT))
            }
            Reading::Polled => Reader::Polled,
        };
        Self {
            reader,
            commits: CommitQueue::new(&consumer),
            wakeup: FetcherWakeup::new(&consumer),
            topic_ids: None,
            consumer,
        }
    }

    /// Takes out what there is, up to [`READ_LIMIT`](super::READ_LIMIT) messages, waiting at most
    /// `wait` for the first. Serves the callbacks on the way; ends early after one was served, for
    /// it may have changed the assignment.
    pub(crate) fn read(
        &mut self,
        wait: Duration,
        mut take: impl FnMut(&NativeMessage<'_>, Cached<'_>),
    ) -> Read {
        let cached = Cached(&self.consumer);
        self.reader
            .read(&self.consumer, wait, |message| take(message, cached))
    }

    /// What an error of a read means.
    pub(crate) fn failure(&self, read: &mut Read) -> Option<Failure> {
        let error = read.error.take()?;
        let no_position = read.reset.take();
        Some(Failure::of(
            &error,
            no_position,
            self.consumer.context().control(),
        ))
    }

    /// What has happened in the group since the last call.
    pub(crate) fn take_events(&self) -> Vec<GroupEvent> {
        self.consumer.context().take_events()
    }

    /// The time that rebalances have taken inside of reads since the last call.
    pub(crate) fn take_rebalance_time(&self) -> Duration {
        self.consumer.context().take_rebalance_time()
    }

    /// Whether the assignor is an eager one: then every rebalance revokes everything.
    pub(crate) fn is_eager(&self) -> bool {
        self.consumer.context().is_eager()
    }

    /// Whether the group has taken the assignment away.
    pub(crate) fn has_lost_assignment(&self) -> bool {
        self.consumer.assignment_lost()
    }

    /// Whether the start of one of these partitions may still be looked up.
    pub(crate) fn is_looking_up(&self, partitions: &[TopicPartition]) -> bool {
        is_looked_up(&self.consumer, partitions)
    }

    /// Answers all revokes that were reported, which are about these partitions.
    pub(crate) fn answer_revoke(&self, partitions: &[TopicPartition]) -> Result<(), ClientError> {
        let context = self.consumer.context();
        context
            .answer(&self.consumer, partitions)
            .map_err(ClientError)
    }

    /// The group's generation, or the member's epoch, and the member's id. `None` outside of a
    /// group.
    pub(crate) fn membership(&self) -> Option<String> {
        native::membership(&self.consumer)
    }

    /// Whether starts are allowed.
    pub(crate) fn lease(&self) -> &SharedLease {
        self.consumer.context().lease()
    }

    pub(crate) fn cached(&self) -> Cached<'_> {
        Cached(&self.consumer)
    }

    /// Sets the client's position, without waiting for its answer: from here on nothing of what
    /// was fetched before is handed out, and a seek that is refused later is of a partition that is
    /// being given up, or has nothing to hand out yet.
    pub(crate) fn seek(&self, topic: &str, partition: i32, to: SeekTo) -> Result<(), ClientError> {
        let to = match to {
            SeekTo::Beginning => Offset::Beginning,
            SeekTo::Position(position) => Offset::Offset(position.get()),
        };
        self.consumer
            .seek(topic, partition, to, Duration::ZERO)
            .map_err(ClientError)
    }

    /// Sets the client's positions, and waits until that has begun. Returns for which of them, in
    /// their order, the client refused, or gave no answer in time.
    ///
    /// Where there is a leader epoch, the client first queries where that ends in the log, and
    /// fetches nothing before it has the answer. That is not awaited.
    pub(crate) fn seek_all(
        &self,
        positions: &[PositionToSet<'_>],
        within: Duration,
    ) -> Vec<Option<RDKafkaErrorCode>> {
        let mut list = TopicPartitionList::with_capacity(positions.len());
        for to in positions {
            let mut element = list.add_partition(to.topic, to.partition);
            // The only error is an offset that is none; the client refuses the element then.
            if let Err(error) = element.set_offset(Offset::Offset(to.position.get())) {
                tracing::debug!(%error, to.topic, to.partition, "no position");
            }
        }
        let epochs: Vec<_> = positions.iter().map(|to| to.leader_epoch).collect();
        native::set_leader_epochs(&mut list, &epochs);
        self.lease()
            .during(within, || native::seek(&self.consumer, &mut list, within))
    }

    /// Fetches nothing more of these partitions. What was fetched already is thrown away.
    pub(crate) fn pause<'a>(
        &self,
        partitions: impl Iterator<Item = (&'a str, i32)>,
    ) -> Result<(), ClientError> {
        self.consumer.pause(&list(partitions)).map_err(ClientError)
    }

    /// Fetches these partitions again. To wake their fetchers is another call.
    pub(crate) fn resume<'a>(
        &self,
        partitions: impl Iterator<Item = (&'a str, i32)>,
    ) -> Result<(), ClientError> {
        self.consumer.resume(&list(partitions)).map_err(ClientError)
    }

    /// Wakes the fetchers of these partitions, which are different ones, without waiting.
    pub(crate) fn wake<'a>(&self, partitions: impl Iterator<Item = (&'a str, i32)>) {
        self.wakeup.wake(&self.consumer, partitions);
    }

    /// Commits points, and has the answer come with the name `id`. One follows where this is `Ok`.
    pub(crate) fn commit<'a>(
        &self,
        id: CommitId,
        points: impl Iterator<Item = (&'a str, i32, &'a CommitPoint)>,
    ) -> Result<(), CommitRefused> {
        let points = list_with_points(points).map_err(|error| {
            let code = error.rdkafka_error_code();
            CommitRefused(code.unwrap_or(RDKafkaErrorCode::InvalidArgument))
        })?;
        self.commits
            .send(&self.consumer, &points, id)
            .map_err(CommitRefused)
    }

    /// The next answer to a commit, if one has come.
    pub(crate) fn commit_answer(&self) -> Option<CommitAnswer> {
        self.commits.answer(Duration::ZERO)
    }

    /// Commits that starts wait for are refused for some time.
    pub(crate) fn note_refused_start(&self, error: CommitRefused) {
        self.consumer.context().note_refused_start(error.0);
    }

    /// Queries what is committed for these partitions, and waits at most this long. Those that the
    /// broker refuses to answer for are left out.
    pub(crate) fn committed<'a>(
        &self,
        partitions: impl Iterator<Item = (&'a str, i32)>,
        within: Duration,
    ) -> Result<Vec<CommittedAnswer>, ClientError> {
        let list = list(partitions);
        let answer = self
            .lease()
            .during(within, || self.consumer.committed_offsets(list, within))
            .map_err(ClientError)?;
        let answers = native::committed(&answer)
            .into_iter()
            .filter(|element| !element.is_refused)
            .map(|element| CommittedAnswer {
                topic: element.topic.to_owned(),
                partition: element.partition,
                committed: CommittedPoint::of(&element),
            });
        Ok(answers.collect())
    }

    /// Queries the ids of these topics, which must be distinct, without waiting. A query that is
    /// under way is given up.
    pub(crate) fn ask_topic_ids(&mut self, topics: &[&str], within: Duration) {
        self.topic_ids = Some(Inquiry::send(&self.consumer, topics, within));
    }

    /// Whether a question for topic ids is under way.
    pub(crate) fn is_asking_topic_ids(&self) -> bool {
        self.topic_ids.is_some()
    }

    /// The answer to the question for topic ids, if one has come. Never waits.
    pub(crate) fn take_topic_ids(&mut self) -> Option<Answer> {
        let answer = self.topic_ids.as_ref()?.answer(Duration::ZERO);
        if answer == Answer::Pending {
            return None;
        }
        self.topic_ids = None;
        if matches!(answer, Answer::Logs(_)) {
            self.consumer.context().starts().set_ids_answered(true);
        }
        Some(answer)
    }
}

impl Drop for Client {
    /// Closing, the client requests the answers to revokes, and waits for them. The polling thread
    /// gives none then: the callbacks do.
    fn drop(&mut self) {
        self.consumer.context().close(&self.consumer);
    }
}

#[cfg(test)]
mod testing {
    use std::sync::Arc;

    use super::*;
    use crate::kafka::Starts;
    use crate::metrics::SubscriptionMetrics;
    use crate::status::Control;
    use keylane_embedded_broker::EmbeddedBroker;

    impl Client {
        /// A member of the group `group` that has subscribed to nothing.
        pub(crate) fn for_tests(broker: &EmbeddedBroker, settings: &[(&str, &str)]) -> Self {
            let control = Arc::new(Control::new(Duration::from_secs(30)));
            let metrics = Arc::new(SubscriptionMetrics::new("subscription"));
            let lease = Arc::new(SharedLease::new());
            let context = Context::new(control, metrics, lease, Starts::default());
            let mut config = ClientConfig::new();
            config
                .set("bootstrap.servers", broker.bootstrap_servers())
                .set("group.id", "group")
                .set("reconnect.backoff.max.ms", "100");
            for (name, value) in settings {
                config.set(*name, *value);
            }
            let consumer = config
                .create_with_context(context)
                .expect("the settings are right");
            Self::new(consumer, Reading::Polled)
        }

        /// Reads the first partition of a topic from its beginning, outside of the group.
        pub(crate) fn read_from_beginning(&self, topic: &str) {
            let mut list = rdkafka::TopicPartitionList::new();
            list.add_partition_offset(topic, 0, rdkafka::Offset::Beginning)
                .and_then(|()| self.consumer.assign(&list))
                .expect("the topic is there");
        }

        pub(crate) fn control(&self) -> &Control {
            self.consumer.context().control()
        }

        /// The offset that is committed for a partition.
        pub(crate) fn committed_offset(&self, topic: &str, partition: i32) -> Option<i64> {
            let answers = self
                .committed([(topic, partition)].into_iter(), Duration::from_secs(30))
                .expect("the broker answers");
            let committed = answers.into_iter().next()?.committed?;
            Some(committed.position.position.get())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Instant;

    use super::*;
    use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};

    /// A hand-over that was given up leaves an answer behind, which is not that of the next one.
    #[test]
    fn an_answer_to_a_commit_comes_with_the_name_that_the_commit_was_sent_with() {
        let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
        broker.create_topic("tasks", 1).unwrap();
        let client = Client::for_tests(&broker, &[]);
        let point = CommitPoint {
            position: Position::new(5),
            leader_epoch: None,
            metadata: String::new(),
            mark: None,
            running: false,
        };
        let sent = [7, 9, u64::from(u32::MAX)].map(CommitId::new);
        for id in sent {
            let points = [("tasks", 0, &point)].into_iter();
            assert!(client.commit(id, points).is_ok());
        }
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut answered = BTreeSet::new();
        while answered.len() < sent.len() {
            assert!(Instant::now() < deadline, "only {answered:?} are answered");
            if let Some(answer) = client.commit_answer() {
                assert_eq!(answer.result, Ok(()));
                answered.insert(answer.id);
            }
            std::thread::yield_now();
        }
        assert_eq!(answered, BTreeSet::from(sent));
    }
}
