//! What the group of a subscription has committed, as the brokers have it.
//!
//! A part of keylane that `keylane-sql` shares: no promise of its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use keylane_core::{LongestRetry, commit_map};

use super::handle::SubscriptionHandle;
use crate::SubscriptionConfig;
use crate::kafka::operator::{CommittedOffset, Operator, OperatorError};
use crate::record::OriginLog;

const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Reads what the group has committed for its topics. Every call blocks, for 30 seconds at most.
pub struct GroupPositions {
    config: Arc<SubscriptionConfig>,
    topics: Vec<String>,
    operator: Option<Operator>,
    /// What the brokers named the last time.
    logs: HashMap<String, keylane_core::LogId>,
}

/// What the brokers have of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedLog {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The next offset to read, and the topic's id that the commit names. `None` where nothing was
    /// committed.
    pub committed: Option<(i64, Option<u64>)>,
    /// The topic's id, where the brokers name one, the same one as the last time.
    pub topic_id: Option<u64>,
}

impl SubscriptionHandle {
    /// `None` for a subscription without brokers.
    #[doc(hidden)]
    pub fn group_positions(&self) -> Option<GroupPositions> {
        let config = self.control.config.clone()?;
        let topics = config.topics.iter().cloned();
        let topics = topics.chain(config.retry_topic()).collect();
        Some(GroupPositions {
            config,
            topics,
            operator: None,
            logs: HashMap::new(),
        })
    }

    /// Waits until the subscription has ended, whatever ended it.
    #[doc(hidden)]
    pub async fn ended(&self) {
        let _ = self.control.ended().await;
    }
}

impl GroupPositions {
    /// For how long a record may be retried through the retry topic, by the subscription's policy.
    pub fn longest_retry(&self) -> LongestRetry {
        let policy = self.config.retry_policy();
        policy.longest(self.config.attempt_timeout)
    }

    /// The time-out of attempts.
    pub fn attempt_timeout(&self) -> Duration {
        self.config.attempt_timeout
    }

    /// What the brokers have committed now, of origin topics and retry topic. A topic that cannot be
    /// looked up is left out, and reported at the end.
    ///
    /// # Errors
    /// The group's coordinator does not answer or refuses.
    pub fn read(&mut self) -> Result<(Vec<CommittedLog>, Vec<OperatorError>), OperatorError> {
        let mut missing = Vec::new();
        let mut places = Vec::new();
        let before = std::mem::take(&mut self.logs);
        let topics = self.topics.clone();
        let operator = self.operator()?;
        for topic in &topics {
            match operator.topic(topic) {
                Ok(it) => places.extend(it.partitions.iter().map(|(it, _)| (topic.clone(), *it))),
                Err(error) => missing.push(error),
            }
        }
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        // Before the positions: they are not compared with an older log than their own.
        let logs = operator.log_ids(&names);
        let committed = operator.committed(&places)?;
        let read = committed.into_iter().map(|it| {
            let named = logs.get(&it.topic).copied();
            // Twice: a broker that lags behind may name the one before.
            let confirmed = named.filter(|log| before.get(&it.topic) == Some(log));
            let committed = it.committed.as_ref();
            CommittedLog {
                committed: committed.map(|it| (it.position.get(), log_of(it))),
                topic_id: OriginLog::new(confirmed, None).topic_id,
                topic: it.topic,
                partition: it.partition,
            }
        });
        let read = read.collect();
        self.logs = logs;
        Ok((read, missing))
    }

    fn operator(&mut self) -> Result<&Operator, OperatorError> {
        let operator = match self.operator.take() {
            Some(operator) => operator,
            None => Operator::connect(
                &self.config.bootstrap_servers,
                &self.config.kafka,
                &self.config.group,
                ANSWER_WITHIN,
            )?,
        };
        Ok(self.operator.insert(operator))
    }
}

/// The log that a commit names.
fn log_of(committed: &CommittedOffset) -> Option<u64> {
    let content = commit_map::decode(committed.position, &committed.metadata).ok()?;
    OriginLog::new(content.log, None).topic_id
}
