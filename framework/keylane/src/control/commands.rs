//! What an operator's tool reads of a control topic, and writes to it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use keylane_core::Offset;
use keylane_core::control::{Acks, ControlKey, Directives, Order};

use super::wire;
use crate::Headers;
use crate::config::{BootstrapServers, ControlTopic, KafkaSettings};
use crate::kafka::config::{ClientConfigError, reader_config};
use crate::kafka::operator::{Operator, OperatorError};
use crate::kafka::topics::how_to_create_control;
use crate::kafka::{Tail, TailError};
use crate::producer::raw::{OutgoingRecord, PendingLimits, RawProducer};

/// One look at what has come.
const POLL: Duration = Duration::from_millis(50);

/// Reads and writes the control topic of a group. Its calls block.
pub struct Commander {
    operator: Operator,
    group: String,
    topic: String,
    bootstrap_servers: BootstrapServers,
    kafka: KafkaSettings,
    patience: Duration,
}

/// What a control topic says.
#[derive(Clone, Debug)]
pub struct InForce {
    /// What is ordered.
    pub directives: Directives,
    /// What the members have acknowledged.
    pub acks: Acks,
    /// The group's names of its members, where they are known.
    pub live: Option<BTreeSet<String>>,
}

/// The control topic could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// A client setting cannot be used.
    #[error(transparent)]
    Settings(#[from] ClientConfigError),
    /// A query that failed.
    #[error(transparent)]
    Operator(#[from] OperatorError),
    /// The topic cannot be read.
    #[error("cannot read control topic {topic}: {reason}")]
    Unreadable {
        /// The topic.
        topic: String,
        /// The client's reason.
        reason: String,
    },
    /// The order was not written.
    #[error("nothing was written: {0}")]
    Refused(String),
    /// It is not known whether the order was written.
    #[error("it is unknown whether the order was written; write it again: {0}")]
    Unanswered(String),
}

impl Commander {
    /// Of this group's control topic; `topic` where it has another name than the default.
    ///
    /// # Errors
    /// Where a setting cannot be used.
    pub fn connect(
        bootstrap_servers: &BootstrapServers,
        kafka: &KafkaSettings,
        group: &str,
        topic: Option<&str>,
        patience: Duration,
    ) -> Result<Self, ControlError> {
        let operator = Operator::connect(bootstrap_servers, kafka, group, patience)?;
        let topic = topic.map_or_else(|| ControlTopic::name_for(group), str::to_owned);
        Ok(Self {
            operator,
            group: group.to_owned(),
            topic,
            bootstrap_servers: bootstrap_servers.clone(),
            kafka: kafka.clone(),
            patience,
        })
    }

    /// The topic's name.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// For other queries.
    pub fn operator(&self) -> &Operator {
        &self.operator
    }

    /// What the topic says now.
    ///
    /// # Errors
    /// Where it does not exist, or cannot be read to its end in time.
    pub fn read(&self) -> Result<InForce, ControlError> {
        self.look_up()?;
        let config = reader_config(self.bootstrap_servers.as_str(), self.kafka.as_map())?;
        let directives = match self.operator.has_controller() {
            true => Directives::default(),
            false => Directives::without_log_ids(),
        };
        let (mut directives, mut acks) = (directives, Acks::default());
        self.fold(&config, &mut directives, &mut acks)
            .map_err(|reason| ControlError::Unreadable {
                topic: self.topic.clone(),
                reason,
            })?;
        let live = self.operator.member_ids().unwrap_or_else(|error| {
            tracing::debug!(%error, "the group's members are not known");
            None
        });
        Ok(InForce {
            directives,
            acks,
            live,
        })
    }

    /// A missing topic is not created by a client that reads or writes it.
    fn look_up(&self) -> Result<(), ControlError> {
        let found = self.operator.topic(&self.topic);
        found.map(drop).map_err(|error| ControlError::Unreadable {
            topic: self.topic.clone(),
            reason: format!(
                "{error}; where it does not exist, {}",
                how_to_create_control(&self.group, &self.topic)
            ),
        })
    }

    fn fold(
        &self,
        config: &crate::kafka::config::ClientSettings,
        directives: &mut Directives,
        acks: &mut Acks,
    ) -> Result<(), String> {
        let reason = |error| match error {
            TailError::Unreadable(reason) => reason,
            TailError::Replaced(reason) => format!("{reason} meanwhile"),
        };
        let mut tail = Tail::open(config, &self.topic).map_err(reason)?;
        let (end, deadline) = (
            tail.end(self.patience).map_err(reason)?,
            Instant::now() + self.patience,
        );
        while tail.position() < end {
            if Instant::now() >= deadline {
                return Err(format!(
                    "offset {} of {end} was reached in {:?}",
                    tail.position(),
                    self.patience
                ));
            }
            tail.read(POLL, |record| {
                let key = record.key.and_then(|key| std::str::from_utf8(key).ok());
                let key = key.unwrap_or_default();
                match ControlKey::parse(key) {
                    Some(ControlKey::Ack(member)) => {
                        acks.apply(&member, wire::decode_ack(record.value));
                    }
                    _ => {
                        let content = wire::decode(record.value);
                        directives.apply(Offset::new(record.offset), key, content);
                    }
                }
            })
            .map_err(reason)?;
        }
        Ok(())
    }

    /// Writes an order, or takes it back. The offset that it has.
    ///
    /// # Errors
    /// Where the topic does not exist, the brokers refuse or do not answer.
    pub fn write(&self, key: &ControlKey, order: Option<&Order>) -> Result<Offset, ControlError> {
        self.look_up()?;
        let limits = PendingLimits {
            records: 1,
            bytes: 1 << 20,
        };
        let writer = RawProducer::start(
            self.bootstrap_servers.as_str(),
            self.kafka.as_map(),
            limits,
            Arc::new(|_| {}),
        )?;
        let record = OutgoingRecord {
            topic: self.topic.as_str().into(),
            partition: Some(0),
            key: Some(Bytes::from(key.to_string())),
            value: order.map(|order| Bytes::from(wire::encode(order))),
            headers: Headers::new(),
            timestamp_millis: None,
        };
        let patience = self.patience;
        let write = async move {
            let answer = tokio::time::timeout(patience, writer.send(record)).await;
            let _ = writer.close(patience).await;
            answer
        };
        // On a thread of its own: the caller may be one of a runtime.
        let wait = || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()?;
            Ok::<_, std::io::Error>(runtime.block_on(write))
        };
        let waited = std::thread::scope(|scope| scope.spawn(wait).join());
        match waited {
            Ok(Ok(Ok(Ok(written)))) => Ok(Offset::new(written.offset)),
            Ok(Ok(Ok(Err(error)))) if error.is_refusal() => {
                Err(ControlError::Refused(error.to_string()))
            }
            Ok(Ok(Ok(Err(error)))) => Err(ControlError::Unanswered(error.to_string())),
            Ok(Ok(Err(_))) => Err(ControlError::Unanswered(format!(
                "no answer in {patience:?}"
            ))),
            Ok(Err(error)) => Err(ControlError::Refused(error.to_string())),
            Err(_) => Err(ControlError::Unanswered("the writer panicked".to_owned())),
        }
    }
}
