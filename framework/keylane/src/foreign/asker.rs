//! Asking the brokers whether a consumer group is alive, on a thread of its own: it takes round
//! trips.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keylane_core::Liveness;
use rdkafka::bindings::rd_kafka_admin_op_t as Operation;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::{ClientConfig, TopicPartitionList};

use super::Answers;
use crate::kafka::config::creation_error;
use crate::kafka::topics::LastError;
use crate::kafka::{AdminOptions, Reply, ReplyQueue};
use crate::kafka::{describe_group, has_offsets, list_group_offsets, members};
use crate::producer::TopicTarget;
use crate::status::{Control, SubscriptionError};
use crate::support::lock::lock;
use crate::support::panics::caught;

/// Each of the two questions about a group may take this long, so both take less than
/// [`keylane_core::QUESTION_PATIENCE`].
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

type Client = BaseConsumer<LastError>;

/// The thread starts with the first question, and ends with this.
pub(super) struct Asker {
    config: ClientConfig,
    retry_topic: TopicTarget,
    answers: Arc<Answers>,
    control: Arc<Control>,
    questions: Mutex<Option<SyncSender<Arc<str>>>>,
}

impl Asker {
    pub(super) fn new(
        config: ClientConfig,
        retry_topic: TopicTarget,
        answers: Arc<Answers>,
        control: Arc<Control>,
    ) -> Self {
        Self {
            config,
            retry_topic,
            answers,
            control,
            questions: Mutex::default(),
        }
    }

    /// `false` where the question cannot be asked. Does not wait: one question is under way at a
    /// time.
    pub(super) fn ask(&self, group: Arc<str>) -> bool {
        let mut questions = lock(&self.questions);
        if questions.is_none() {
            *questions = self.start();
        }
        let asked = questions
            .as_ref()
            .is_some_and(|questions| questions.try_send(group).is_ok());
        if !asked {
            *questions = None;
        }
        asked
    }

    fn start(&self) -> Option<SyncSender<Arc<str>>> {
        let (sender, receiver) = sync_channel(1);
        let (config, topic, answers) = (
            self.config.clone(),
            self.retry_topic.clone(),
            self.answers.clone(),
        );
        let control = self.control.clone();
        std::thread::Builder::new()
            .name("keylane-foreign".into())
            .spawn(move || {
                let answer = || answer(&config, &topic, &receiver, &answers);
                if let Err(panic) = caught(answer) {
                    let what = format!("the thread that asks about other groups panicked: {panic}");
                    control.fail(SubscriptionError::Internal(what));
                }
            })
            .inspect_err(
                |error| tracing::warn!(%error, "other consumer groups cannot be asked about"),
            )
            .ok()?;
        Some(sender)
    }
}

fn answer(
    config: &ClientConfig,
    topic: &TopicTarget,
    questions: &Receiver<Arc<str>>,
    answers: &Answers,
) {
    let client: Client = match config.create_with_context(LastError::default()) {
        Ok(client) => client,
        Err(error) => {
            let error = creation_error(error);
            return tracing::warn!(%error, "other consumer groups cannot be asked about");
        }
    };
    while let Ok(group) = questions.recv() {
        #[cfg(test)]
        crate::support::panics::planted::step("foreign", &topic.name);
        let liveness = liveness(&client, topic, &group);
        tracing::debug!(
            group = &*group,
            ?liveness,
            "another consumer group was asked about"
        );
        answers.put(&group, liveness);
    }
}

fn liveness(client: &Client, topic: &TopicTarget, group: &str) -> Liveness {
    match has_commits(client, topic, group) {
        Ok(true) => return Liveness::Alive,
        Ok(false) => {}
        // Members are proof enough; that there are none is not.
        Err(error) => {
            tracing::debug!(group, %error, "the commits of another group are not told");
            let has_members = member_count(client, group).is_ok_and(|members| members > 0);
            return if has_members {
                Liveness::Alive
            } else {
                Liveness::Unknown
            };
        }
    }
    match member_count(client, group) {
        Ok(0) => Liveness::Gone,
        Ok(_) => Liveness::Alive,
        Err(error) => {
            tracing::debug!(group, %error, "the members of another group are not told");
            Liveness::Unknown
        }
    }
}

fn has_commits(client: &Client, topic: &TopicTarget, group: &str) -> Result<bool, Code> {
    let mut list = TopicPartitionList::new();
    list.add_partition_range(&topic.name, 0, topic.partitions.get() - 1);
    let operation = Operation::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS;
    let ask = |options: &_, queue: &_| list_group_offsets(client, group, &list, options, queue);
    question(client, operation, ask, has_offsets)
}

fn member_count(client: &Client, group: &str) -> Result<usize, Code> {
    let operation = Operation::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS;
    let ask = |options: &_, queue: &_| describe_group(client, group, options, queue);
    question(client, operation, ask, members)
}

fn question<T>(
    client: &Client,
    operation: Operation,
    ask: impl FnOnce(&AdminOptions, &ReplyQueue) -> bool,
    read: impl FnOnce(&Reply<'_>) -> Result<T, Code>,
) -> Result<T, Code> {
    let queue = ReplyQueue::new(client);
    let options = AdminOptions::new(client, operation, ANSWER_WITHIN);
    if !ask(&options, &queue) {
        return Err(Code::InvalidArgument);
    }
    // The client's own time-out comes first.
    let reply = queue.poll(ANSWER_WITHIN * 2).ok_or(Code::RequestTimedOut)?;
    read(&reply)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::producer::PartitionCount;
    use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};

    #[test]
    fn a_group_with_commits_of_the_topic_is_alive_and_one_that_cannot_be_asked_about_is_unknown() {
        use rdkafka::Offset;
        use rdkafka::consumer::{CommitMode, Consumer};

        let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
        for topic in ["retry", "other"] {
            broker.create_topic(topic, 2).unwrap();
        }
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", broker.bootstrap_servers());
        let commit = |group: &str, topic: &str| {
            let consumer: BaseConsumer = config.clone().set("group.id", group).create().unwrap();
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(topic, 1, Offset::Offset(0))
                .unwrap();
            consumer.commit(&list, CommitMode::Sync).unwrap();
        };
        commit("reads-it", "retry");
        commit("reads-another", "other");
        let client: Client = config.create_with_context(LastError::default()).unwrap();
        let topic = TopicTarget {
            name: "retry".into(),
            partitions: PartitionCount::new(2, Instant::now()),
        };
        assert_eq!(liveness(&client, &topic, "reads-it"), Liveness::Alive);
        // The embedded broker does not describe groups, so none is known to be gone.
        assert_eq!(
            liveness(&client, &topic, "reads-another"),
            Liveness::Unknown
        );
        assert_eq!(liveness(&client, &topic, "no\0group"), Liveness::Unknown);
    }

    #[test]
    fn without_a_broker_nothing_is_known() {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", "localhost:1");
        let client: Client = config.create_with_context(LastError::default()).unwrap();
        let options = AdminOptions::new(
            &client,
            Operation::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS,
            Duration::from_millis(50),
        );
        let queue = ReplyQueue::new(&client);
        assert!(describe_group(&client, "any", &options, &queue));
        assert!(members(&queue.poll(ANSWER_WITHIN).unwrap()).is_err());
    }
}
