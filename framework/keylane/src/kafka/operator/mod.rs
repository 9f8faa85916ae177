//! What an operator's tool queries and commits from outside a group.
//!
//! A part of keylane that its command line, `keylane-cli`, shares: no promise of its own. Nothing
//! here joins a group. Every call blocks, and each of its requests ends within the patience that was
//! given.

mod check_up;
mod creation;
mod deletion;
mod error;
mod reading;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use keylane_core::member::CommitId;
use keylane_core::{LeaderEpoch, LogId, LogRange, Position};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::metadata::MetadataTopic;
use rdkafka::{Offset, TopicPartitionList};

pub use check_up::Access;
pub(super) use check_up::block_on;
pub use deletion::Deletion;
pub use error::OperatorError;
pub use reading::RecordHead;

use super::commit_queue::CommitQueue;
use super::committed::committed;
use super::config::{ClientSettings, creation_error, side_client_config};
use super::lists::list;
use super::native;
use super::topic_ids::{Answer, Inquiry};
use super::topics::LastError;
use crate::config::{BootstrapServers, KafkaSettings};

/// Of one query for committed offsets; a large cluster takes several.
const PARTITIONS_PER_QUERY: usize = 5_000;

/// A client of one group's operator.
pub struct Operator {
    client: BaseConsumer<LastError>,
    /// Of a client without a group.
    settings: ClientSettings,
    group: String,
    patience: Duration,
}

/// A broker of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Its id.
    pub id: i32,
    /// Its advertised `host:port`.
    pub address: String,
}

/// A topic, and the number of its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPartitions {
    /// The topic.
    pub topic: String,
    /// The partitions, ascending, and whether each has a leader.
    pub partitions: Vec<(i32, bool)>,
}

/// What a group has committed for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOffset {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// `None` where nothing was committed.
    pub committed: Option<CommittedOffset>,
    /// Whether the broker refused the query for this partition.
    pub is_refused: bool,
}

/// A committed offset with what lies beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset to read.
    pub position: Position,
    /// Kafka's own leader epoch of the commit.
    pub leader_epoch: Option<LeaderEpoch>,
    /// The metadata, with U+FFFD for what is not UTF-8: no text of keylane's then.
    pub metadata: String,
}

/// An offset to commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewOffset {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The next offset to read.
    pub position: Position,
    /// The text beside it.
    pub metadata: String,
}

/// Whether a group has members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Members {
    /// The coordinator describes a group of the classic protocol.
    Classic {
        /// Kafka's word, such as `Stable` or `Empty`.
        state: String,
        /// How many there are.
        count: usize,
    },
    /// The group has no members, or uses `group.protocol=consumer`, which this client cannot
    /// describe.
    Unknown,
}

impl Operator {
    /// Connects in the background.
    ///
    /// # Errors
    /// Where a setting cannot be used.
    pub fn connect(
        bootstrap_servers: &BootstrapServers,
        kafka: &KafkaSettings,
        group: &str,
        patience: Duration,
    ) -> Result<Self, OperatorError> {
        let settings = side_client_config(bootstrap_servers.as_str(), kafka.as_map())?;
        let mut config = settings.clone();
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "error")
            .set("fetch.wait.max.ms", "100")
            .set("queued.min.messages", "1")
            .set("fetch.message.max.bytes", "65536");
        let client = config
            .create_with_context(LastError::default())
            .map_err(creation_error)?;
        Ok(Self {
            client,
            settings,
            group: group.to_owned(),
            patience,
        })
    }

    /// The brokers, by id.
    ///
    /// # Errors
    /// Where none answers.
    pub fn brokers(&self) -> Result<Vec<Broker>, OperatorError> {
        let metadata = self.client.fetch_metadata(None, self.patience);
        let metadata = metadata.map_err(|error| self.failed("list the brokers", &error))?;
        let brokers = metadata.brokers().iter().map(|broker| Broker {
            id: broker.id(),
            address: format!("{}:{}", broker.host(), broker.port()),
        });
        let mut brokers: Vec<_> = brokers.collect();
        brokers.sort_by_key(|broker| broker.id);
        Ok(brokers)
    }

    /// All topics that this client may see, by name; without Kafka's own.
    ///
    /// # Errors
    /// Where no broker answers.
    pub fn topics(&self) -> Result<Vec<TopicPartitions>, OperatorError> {
        let metadata = self.client.fetch_metadata(None, self.patience);
        let metadata = metadata.map_err(|error| self.failed("list the topics", &error))?;
        let own = |topic: &&MetadataTopic| !topic.name().starts_with("__");
        let topics = metadata.topics().iter().filter(own).map(partitions);
        let mut topics: Vec<_> = topics.collect();
        topics.sort_by(|one, other| one.topic.cmp(&other.topic));
        Ok(topics)
    }

    /// One topic.
    ///
    /// # Errors
    /// Where no broker answers, or the topic does not exist, or this client may not see it.
    pub fn topic(&self, topic: &str) -> Result<TopicPartitions, OperatorError> {
        let doing = || format!("look up topic {topic}");
        let metadata = self.client.fetch_metadata(Some(topic), self.patience);
        let metadata = metadata.map_err(|error| self.failed(doing(), &error))?;
        let found = metadata.topics().first();
        let error = found.and_then(|topic| topic.error()).map(Into::into);
        match (found, error) {
            (Some(found), None) => Ok(partitions(found)),
            (_, Some(code)) => Err(OperatorError::refused(doing(), code)),
            (None, None) => Err(OperatorError::Failed {
                doing: doing(),
                reason: "no broker lists it".to_owned(),
            }),
        }
    }

    /// What the group has committed, in the order of `partitions`.
    ///
    /// # Errors
    /// Where the group's coordinator does not answer or refuses.
    pub fn committed(
        &self,
        partitions: &[(String, i32)],
    ) -> Result<Vec<GroupOffset>, OperatorError> {
        let mut offsets = Vec::with_capacity(partitions.len());
        for some in partitions.chunks(PARTITIONS_PER_QUERY) {
            let asked = || list(some.iter().map(|(topic, it)| (&**topic, *it)));
            let doing = || format!("read what group {} has committed", self.group);
            // The list lives shorter than the client, which could not close otherwise.
            let answer = committed(&self.client, asked, self.patience, || false)
                .map_err(|error| self.failed(doing(), &error))?;
            for it in native::committed(&answer) {
                offsets.push(GroupOffset {
                    topic: it.topic.to_owned(),
                    partition: it.partition,
                    is_refused: it.is_refused,
                    committed: (it.offset >= 0 && !it.is_refused).then(|| CommittedOffset {
                        position: Position::new(it.offset),
                        leader_epoch: it.leader_epoch,
                        metadata: String::from_utf8_lossy(it.metadata).into_owned(),
                    }),
                });
            }
        }
        Ok(offsets)
    }

    /// The first offset and the end of a partition's log.
    ///
    /// # Errors
    /// Where the leader does not answer or refuses.
    pub fn range(&self, topic: &str, partition: i32) -> Result<LogRange, OperatorError> {
        let answer = self
            .client
            .fetch_watermarks(topic, partition, self.patience);
        let doing = || format!("read the range of {topic}/{partition}");
        let (first, end) = answer.map_err(|error| self.failed(doing(), &error))?;
        Ok(LogRange {
            first: Position::new(first),
            end: Position::new(end),
        })
    }

    /// The ids of the topics' logs; those that the brokers do not name are missing.
    pub fn log_ids(&self, topics: &[&str]) -> HashMap<String, LogId> {
        // librdkafka's mock names a controller that does not exist, and nothing would answer.
        if !self.has_controller() {
            return HashMap::new();
        }
        let inquiry = Inquiry::send(&self.client, topics, self.patience);
        match inquiry.answer(self.patience) {
            Answer::Logs(logs) => logs.into_iter().collect(),
            Answer::Pending | Answer::Refused => HashMap::new(),
        }
    }

    /// For each partition of a topic the offset of the first record at or after a time; `None`
    /// where there is no such record.
    ///
    /// # Errors
    /// Where a leader does not answer or refuses.
    pub fn offsets_at(
        &self,
        topic: &str,
        partitions: &[i32],
        millis: i64,
    ) -> Result<Vec<Option<Position>>, OperatorError> {
        let doing = || format!("look up a time in {topic}");
        let ask = || -> KafkaResult<Vec<Option<Position>>> {
            let mut times = TopicPartitionList::new();
            for partition in partitions {
                times.add_partition_offset(topic, *partition, Offset::Offset(millis))?;
            }
            let answer = self.client.offsets_for_times(times, self.patience)?;
            let found = answer.elements().into_iter().map(|element| {
                element.error()?;
                Ok(match element.offset() {
                    Offset::Offset(offset) => Some(Position::new(offset)),
                    _ => None,
                })
            });
            found.collect()
        };
        ask().map_err(|error| self.failed(doing(), &error))
    }

    /// Commits for the group, which must have no members: all of `offsets` in one request.
    ///
    /// # Errors
    /// [`OperatorError::LiveMembers`] where the coordinator refuses for that reason; another one
    /// where it refuses otherwise. Some partitions may have been committed then.
    /// [`OperatorError::Unanswered`] where it is unknown what became of the commit.
    pub fn commit(&self, offsets: &[NewOffset]) -> Result<(), OperatorError> {
        let doing = || format!("commit for group {}", self.group);
        let list = to_commit(offsets).map_err(|error| self.failed(doing(), &error))?;
        let queue = CommitQueue::new(&self.client);
        let sent = queue.send(&self.client, &list, CommitId::new(0));
        sent.map_err(|code| OperatorError::refused(doing(), code))?;
        let answer = queue.answer(self.patience);
        let code = match answer.map(|answer| answer.result) {
            Some(Ok(())) => return Ok(()),
            Some(Err(refused)) => refused.0,
            None => Code::OperationTimedOut,
        };
        Err(match code {
            code if error::is_of_members(code) => OperatorError::LiveMembers {
                group: self.group.clone(),
            },
            Code::OffsetMetadataTooLarge | Code::InvalidCommitOffsetSize => {
                let lengths = offsets.iter().map(|it| it.metadata.len());
                let bytes = lengths.max().unwrap_or(0);
                OperatorError::MetadataTooLarge { bytes }
            }
            code if error::is_refusal(code) => OperatorError::refused(doing(), code),
            code => OperatorError::Unanswered {
                doing: doing(),
                reason: code.to_string(),
            },
        })
    }

    /// What the coordinator says about the group's members.
    ///
    /// # Errors
    /// Where no coordinator answers, or it refuses.
    pub fn members(&self) -> Result<Members, OperatorError> {
        let answer = self
            .client
            .fetch_group_list(Some(&self.group), self.patience);
        let doing = || format!("describe group {}", self.group);
        let groups = answer.map_err(|error| self.failed(doing(), &error))?;
        let group = groups.groups().iter().find(|it| it.name() == self.group);
        Ok(match group {
            Some(group) if !matches!(group.state(), "Dead" | "") => Members::Classic {
                state: group.state().to_owned(),
                count: group.members().len(),
            },
            _ => Members::Unknown,
        })
    }

    /// The ids of the group's members; `None` where [`members`](Self::members) are unknown.
    ///
    /// # Errors
    /// Where no coordinator answers, or it refuses.
    pub fn member_ids(&self) -> Result<Option<BTreeSet<String>>, OperatorError> {
        let answer = self
            .client
            .fetch_group_list(Some(&self.group), self.patience);
        let doing = || format!("describe group {}", self.group);
        let groups = answer.map_err(|error| self.failed(doing(), &error))?;
        let mut groups = groups.groups().iter();
        let group = groups.find(|it| it.name() == self.group && !matches!(it.state(), "Dead" | ""));
        let ids = |members: &[rdkafka::groups::GroupMemberInfo]| {
            members
                .iter()
                .map(|member| member.id().to_owned())
                .collect()
        };
        Ok(group.map(|group| ids(group.members())))
    }

    fn failed(&self, doing: impl Into<String>, error: &KafkaError) -> OperatorError {
        // Reasons come with callbacks, which a poll runs.
        let _ = self.client.poll(Duration::ZERO);
        OperatorError::of(doing.into(), error, self.client.context())
    }
}

fn to_commit(offsets: &[NewOffset]) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for offset in offsets {
        let mut element = list.add_partition(&offset.topic, offset.partition);
        element.set_offset(Offset::Offset(offset.position.get()))?;
        element.set_metadata(&offset.metadata);
    }
    Ok(list)
}

fn partitions(topic: &MetadataTopic) -> TopicPartitions {
    let partitions = topic.partitions().iter();
    let mut partitions: Vec<_> = partitions.map(|it| (it.id(), it.leader() >= 0)).collect();
    partitions.sort_unstable();
    TopicPartitions {
        topic: topic.name().to_owned(),
        partitions,
    }
}
