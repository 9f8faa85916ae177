//! When a skip is carried out, and can be taken out of the control topic.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use keylane_core::commit_map;
use keylane_core::control::{ControlKey, Directives};

use crate::SubscriptionConfig;
use crate::config::{BootstrapServers, KafkaSettings};
use crate::kafka::operator::{CommittedOffset, Operator};

/// How often the commits are queried while there are skips.
const ASK_EVERY: Duration = Duration::from_secs(5);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Queries what the group has committed for partitions that have skips. What this member has sent
/// may not be on the broker; only the broker's answer counts.
pub(crate) struct Skips {
    bootstrap_servers: BootstrapServers,
    kafka: KafkaSettings,
    group: String,
    /// Only while there are skips.
    operator: Option<Operator>,
    asked: Option<Instant>,
}

impl Skips {
    pub(crate) fn of(config: &SubscriptionConfig) -> Self {
        Self {
            bootstrap_servers: config.bootstrap_servers.clone(),
            kafka: config.kafka.clone(),
            group: config.group.clone(),
            operator: None,
            asked: None,
        }
    }

    /// The skips that are carried out; `None` where it is not time to ask, or there was no answer.
    pub(super) fn done(&mut self, directives: &Directives) -> Option<Vec<ControlKey>> {
        let places: BTreeSet<_> = directives.skip_places().collect();
        if places.is_empty() {
            self.operator = None;
            return None;
        }
        if self.asked.is_some_and(|asked| asked.elapsed() < ASK_EVERY) {
            return None;
        }
        self.asked = Some(Instant::now());
        let places: Vec<_> = places
            .into_iter()
            .map(|(topic, partition)| (topic.to_owned(), partition))
            .collect();
        let committed = match self.operator() {
            Ok(operator) => operator.committed(&places),
            Err(error) => Err(error),
        };
        let committed = match committed {
            Ok(committed) => committed,
            Err(error) => {
                tracing::debug!(%error, "it is not known whether skips of the control topic are committed");
                return None;
            }
        };
        Some(directives.done_skips(|topic, partition| {
            let mut offsets = committed.iter();
            let found = offsets.find(|it| it.partition == partition && it.topic == topic)?;
            let CommittedOffset {
                position, metadata, ..
            } = found.committed.as_ref()?;
            let content = commit_map::decode(*position, metadata).unwrap_or_default();
            Some((content.log, *position))
        }))
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
