//! Follows a topic of one partition from its beginning on, without a group.

use std::sync::Arc;
use std::time::Duration;

use keylane_core::{Identity, Seen};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::{Offset, TopicPartitionList};

use super::fetch_queue::{FetchQueue, Forwarding};
use super::topic_ids::{Answer, Inquiry};
use super::topics::LastError;
use crate::kafka::config::{ClientSettings, creation_error};

/// The most records that one read takes.
const AT_ONCE: usize = 100;
const PARTITION: i32 = 0;

/// Its calls block.
pub(crate) struct Tail {
    // Dropped before the client. rdkafka's own does not say at which offset the partition ended.
    queue: FetchQueue,
    client: BaseConsumer<LastError>,
    topic: String,
    /// Everything before it was read.
    position: i64,
    /// Of brokers that answer for it.
    identity: Option<Identity>,
}

/// A record as it is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tailed<'a> {
    pub(crate) offset: i64,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
}

/// The tail follows no longer what it began with: open another one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TailError {
    /// No answer, or a refusal, with the reason.
    Unreadable(String),
    /// The topic was re-created, or its log was cut.
    Replaced,
}

impl Tail {
    /// Begins to read. `answers_ids`: there is a broker to ask for topic ids.
    pub(crate) fn open(
        config: &ClientSettings,
        topic: &str,
        answers_ids: bool,
    ) -> Result<Self, TailError> {
        let unreadable = |error: KafkaError| TailError::Unreadable(error.to_string());
        let mut config = config.clone();
        config.set("statistics.interval.ms", "0");
        let mut client: BaseConsumer<LastError> = config
            .create_with_context(LastError::default())
            .map_err(|error| TailError::Unreadable(creation_error(error).to_string()))?;
        let forwarding = Arc::<Forwarding>::default();
        let queue = FetchQueue::new(&mut client, forwarding.clone(), AT_ONCE);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, PARTITION, Offset::Beginning)
            .map_err(unreadable)?;
        forwarding.forward(&client, topic, PARTITION);
        client.assign(&list).map_err(unreadable)?;
        Ok(Self {
            queue,
            client,
            topic: topic.to_owned(),
            position: 0,
            identity: answers_ids.then(Identity::default),
        })
    }

    /// Takes what is there, waiting at most `wait` for it.
    pub(crate) fn read(
        &mut self,
        wait: Duration,
        mut take: impl FnMut(Tailed<'_>),
    ) -> Result<(), TailError> {
        let (position, mut went_back) = (&mut self.position, false);
        let read = self.queue.read(
            &self.client,
            || false,
            wait,
            |message| {
                went_back |= message.offset() < *position;
                if went_back {
                    return;
                }
                *position = message.offset().saturating_add(1);
                take(Tailed {
                    offset: message.offset(),
                    key: message.key(),
                    value: message.value(),
                });
            },
        );
        if went_back {
            return Err(TailError::Replaced);
        }
        let is_end = |error: &KafkaError| error.rdkafka_error_code() == Some(Code::PartitionEOF);
        match read.error {
            // Compaction leaves the offsets of what it removed: the end may be behind the last
            // record.
            Some(error) if is_end(&error) => {
                let ends = read.failed_fetches.iter().map(|end| end.offset);
                *position = ends.fold(*position, i64::max);
                Ok(())
            }
            Some(error) if is_lasting(&error) => Err(self.unreadable(&error)),
            Some(error) => {
                tracing::debug!(topic = %self.topic, %error, "the control topic cannot be read just now");
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Everything before this offset was read.
    pub(crate) fn position(&self) -> i64 {
        self.position
    }

    /// The log's end as it is now. To be called from time to time: it also finds that the log is
    /// another one.
    pub(crate) fn end(&mut self, within: Duration) -> Result<i64, TailError> {
        let range = self
            .client
            .fetch_watermarks(&self.topic, PARTITION, within)
            .map_err(|error| self.unreadable(&error))?;
        if range.1 < self.position || self.is_another(within) {
            return Err(TailError::Replaced);
        }
        Ok(range.1)
    }

    fn is_another(&mut self, within: Duration) -> bool {
        let Some(identity) = &mut self.identity else {
            return false;
        };
        let asked = Inquiry::send(&self.client, &[&self.topic], within);
        let Answer::Logs(logs) = asked.answer(within) else {
            return false;
        };
        let there = logs.first().map(|(_, log)| identity.see(*log));
        there == Some(Seen::Another)
    }

    fn unreadable(&self, error: &KafkaError) -> TailError {
        let reason = self.client.context().text();
        let is_vague = matches!(
            error.rdkafka_error_code(),
            Some(Code::OperationTimedOut | Code::BrokerTransportFailure | Code::AllBrokersDown)
        );
        let reason = reason.filter(|_| is_vague);
        TailError::Unreadable(reason.unwrap_or_else(|| error.to_string()))
    }
}

/// Others pass, or show in the query for the end.
fn is_lasting(error: &KafkaError) -> bool {
    match error {
        KafkaError::MessageConsumptionFatal(_) => true,
        KafkaError::MessageConsumption(code) => matches!(
            code,
            Code::TopicAuthorizationFailed
                | Code::UnknownTopicOrPartition
                | Code::UnknownTopic
                | Code::UnknownPartition
                | Code::AutoOffsetReset
        ),
        _ => false,
    }
}
