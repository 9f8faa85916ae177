//! When a skip is carried out, and can be taken out of the control topic.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use keylane_core::control::{ControlKey, Directives, SkipEnd};
use keylane_core::{LogId, commit_map};

use crate::SubscriptionConfig;
use crate::config::{BootstrapServers, KafkaSettings};
use crate::kafka::operator::{CommittedOffset, Operator};
use crate::status::Control;

/// How often the commits are queried while there are skips.
const ASK_EVERY: Duration = Duration::from_secs(5);
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Queries what the group has committed for partitions that have skips. What this member has sent
/// may not be on the broker; only the broker's answer counts.
pub(crate) struct Skips {
    bootstrap_servers: BootstrapServers,
    kafka: KafkaSettings,
    group: String,
    /// Only while there are skips.
    operator: Option<Operator>,
    asked: Option<Instant>,
    /// Of topics with skips, the logs that the brokers named the last time.
    logs: HashMap<String, LogId>,
}

impl Skips {
    pub(crate) fn of(config: &SubscriptionConfig) -> Self {
        Self {
            bootstrap_servers: config.bootstrap_servers.clone(),
            kafka: config.kafka.clone(),
            group: config.group.clone(),
            operator: None,
            asked: None,
            logs: HashMap::new(),
        }
    }

    /// The skips of partitions of this member that are carried out, or whose log is gone; `None`
    /// where it is not time to ask, or there was no answer.
    pub(super) fn done(
        &mut self,
        directives: &Directives,
        control: &Control,
    ) -> Option<Vec<(ControlKey, SkipEnd)>> {
        let mut places: BTreeSet<_> = directives.skip_places().collect();
        if places.is_empty() {
            self.operator = None;
            return None;
        }
        if self.asked.is_some_and(|asked| asked.elapsed() < ASK_EVERY) {
            return None;
        }
        self.asked = Some(Instant::now());
        let own = control.status().partitions;
        places.retain(|place| own.iter().any(|it| (&*it.topic, it.partition) == *place));
        if places.is_empty() {
            return None;
        }
        let topics: BTreeSet<_> = places.iter().map(|(topic, _)| *topic).collect();
        let topics: Vec<&str> = topics.into_iter().collect();
        let before = std::mem::take(&mut self.logs);
        let places: Vec<_> = places
            .into_iter()
            .map(|(topic, partition)| (topic.to_owned(), partition))
            .collect();
        let committed = match self.operator() {
            Ok(operator) => {
                let committed = operator.committed(&places);
                let logs = operator.log_ids(&topics);
                committed.map(|it| (it, logs))
            }
            Err(error) => Err(error),
        };
        let (committed, logs) = match committed {
            Ok(answered) => answered,
            Err(error) => {
                tracing::debug!(%error, "it is not known whether skips of the control topic are committed");
                return None;
            }
        };
        // Named twice: a broker may lag behind, and know an older log than the order.
        let is_gone = |topic: &str, log: LogId| {
            let there = logs.get(topic).filter(|it| before.get(topic) == Some(it));
            there.is_some_and(|there| *there != log)
        };
        let of_commit = |topic: &str, partition: i32| {
            let mut offsets = committed.iter();
            let found = offsets.find(|it| it.partition == partition && it.topic == topic)?;
            let CommittedOffset {
                position, metadata, ..
            } = found.committed.as_ref()?;
            let content = commit_map::decode(*position, metadata).unwrap_or_default();
            Some((content.log, *position))
        };
        let done = directives.done_skips(of_commit, is_gone);
        self.logs = logs;
        Some(done)
    }

    fn operator(&mut self) -> Result<&Operator, crate::kafka::operator::OperatorError> {
        let operator = match self.operator.take() {
            Some(operator) => operator,
            None => Operator::connect(
                &self.bootstrap_servers,
                &self.kafka,
                &self.group,
                ANSWER_WITHIN,
            )?,
        };
        Ok(self.operator.insert(operator))
    }
}
