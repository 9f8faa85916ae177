//! Whether a control topic is fit to be one.

use std::time::Duration;

use crate::SubscriptionConfig;
use crate::kafka::operator::Operator;
use crate::kafka::topics::TopicError;

const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Refuses a topic that would lose orders, or give them in no order. Blocks.
///
/// `partitions`: how many it has. Where the brokers do not let this client see the topic's settings,
/// there is a warning.
pub(crate) fn check(
    config: &SubscriptionConfig,
    name: &str,
    partitions: Option<i32>,
    answers_ids: bool,
) -> Result<(), TopicError> {
    let refused = |problem: String| TopicError::ControlTopic {
        name: name.to_owned(),
        problem,
    };
    if let Some(partitions) = partitions.filter(|it| *it != 1) {
        return Err(refused(format!(
            "has {partitions} partitions, and needs one: orders in several have no order; create another one, and name \
             it"
        )));
    }
    // librdkafka's mock does not answer.
    if !answers_ids {
        return Ok(());
    }
    let patience = config.startup_timeout.min(ANSWER_WITHIN);
    let settings = Operator::connect(
        &config.bootstrap_servers,
        &config.kafka,
        &config.group,
        patience,
    )
    .and_then(|operator| operator.topic_settings(name));
    let policy = match settings {
        Ok(settings) => settings.get("cleanup.policy").cloned(),
        Err(error) => {
            tracing::warn!(
                topic = name, %error,
                "it is not known whether the control topic is compacted; grant this client DESCRIBE_CONFIGS on it"
            );
            return Ok(());
        }
    };
    match policy.as_deref() {
        Some("compact") | None => Ok(()),
        Some(policy) => Err(refused(format!(
            "has cleanup.policy={policy}, which loses orders with time: set it by `kafka-configs.sh --alter \
             --entity-type topics --entity-name {name} --add-config cleanup.policy=compact`"
        ))),
    }
}
