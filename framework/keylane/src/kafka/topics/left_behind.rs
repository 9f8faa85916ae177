//! A retry topic that is there, and not the one configured: records in it are never read.

use std::fmt;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::cluster::{Cluster, Lookup};
use super::error::{NamedTopic, TopicRole};
use super::last_error::LastError;
use super::plan::TopicPlan;

/// This only warns, so a start waits no longer for it.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Records that lie in `<origin>-retry` beyond what the group has committed there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LeftBehind {
    topic: String,
    records: u64,
    group: String,
    /// The retry topic that is configured.
    configured: Option<String>,
}

impl fmt::Display for LeftBehind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            topic,
            records,
            group,
            configured,
        } = self;
        write!(
            f,
            "topic `{topic}` holds {records} records that group `{group}` has not committed, and "
        )?;
        match configured {
            None => f.write_str(
                "no retry topic is configured: retries of this group in it are never processed; add then_topic() \
                 (retry.topic) to the retry policy until they are",
            )?,
            Some(other) => write!(
                f,
                "the retry topic that is configured is `{other}`: retries of this group in it are never processed; \
                 configure that one (retry.topic.name) until they are, and `{other}` again afterwards, whose records wait until then"
            )?,
        }
        f.write_str(", or ignore this if the topic belongs to other groups")
    }
}

/// Looks at `<origin>-retry` of each origin, where another retry topic is configured or none. Beside
/// another one only where the group has read it: else it is probably another group's.
/// Whatever is not answered is left out.
pub(super) fn left_behind(
    cluster: &Cluster,
    client_config: &ClientConfig,
    plan: &TopicPlan<'_>,
    deadline: Instant,
) -> Vec<LeftBehind> {
    let deadline = deadline.min(Instant::now() + ANSWER_WITHIN);
    let is_used = |name: &String| {
        plan.origins.contains(name) || [plan.retry, plan.dead_letter].contains(&Some(name))
    };
    let names = plan.origins.iter().map(|origin| format!("{origin}-retry"));
    names
        .filter(|name| !is_used(name))
        .filter_map(|topic| {
            let named = NamedTopic {
                role: TopicRole::Retry,
                name: topic.clone(),
            };
            let Ok(Lookup::Found { partitions }) =
                cluster.look_up(&named, Instant::now(), deadline)
            else {
                return None;
            };
            let found = unread(client_config, plan.group, &topic, partitions, deadline)?;
            let is_ours = plan.retry.is_none() || found.was_read;
            let records = found.records;
            (records > 0 && is_ours).then(|| LeftBehind {
                topic,
                records,
                group: plan.group.to_owned(),
                configured: plan.retry.map(str::to_owned),
            })
        })
        .collect()
}

struct Unread {
    records: u64,
    /// The group has committed a position in it.
    was_read: bool,
}

/// `None` where a broker does not answer. What compaction removed and the markers of transactions
/// count as well.
fn unread(
    client_config: &ClientConfig,
    group: &str,
    topic: &str,
    partitions: i32,
    deadline: Instant,
) -> Option<Unread> {
    let left = || deadline.saturating_duration_since(Instant::now());
    let mut config = client_config.clone();
    // It reads the group's positions, and does not join.
    config
        .set("group.id", group)
        .set("allow.auto.create.topics", "false")
        .set("statistics.interval.ms", "0");
    let client: BaseConsumer<LastError> = config.create_with_context(LastError::default()).ok()?;
    let mut list = TopicPartitionList::new();
    list.add_partition_range(topic, 0, partitions - 1);
    let committed = client.committed_offsets(list, left()).ok()?;
    let (mut records, mut was_read) = (0, false);
    for partition in 0..partitions {
        let (first, end) = client.fetch_watermarks(topic, partition, left()).ok()?;
        let position = match committed
            .find_partition(topic, partition)
            .map(|it| it.offset())
        {
            Some(Offset::Offset(offset)) => {
                was_read = true;
                offset.max(first)
            }
            _ => first,
        };
        records += u64::try_from(end.saturating_sub(position)).unwrap_or(0);
    }
    Some(Unread { records, was_read })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};
    use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};

    use super::*;
    use crate::kafka::topics::check;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn config(broker: &EmbeddedBroker) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", broker.bootstrap_servers());
        config
    }

    fn warnings(broker: &EmbeddedBroker, plan: &TopicPlan<'_>) -> Vec<String> {
        let report = check(&config(broker), plan, PATIENCE).unwrap();
        report.warnings
    }

    #[test]
    fn a_retry_topic_with_records_is_a_warning_where_it_is_not_the_one_configured() {
        let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
        for topic in ["a", "a-retry", "b"] {
            broker.create_topic(topic, 2).unwrap();
        }
        let origins = ["a".to_owned(), "b".to_owned()];
        let plan = TopicPlan {
            origins: &origins,
            retry: None,
            dead_letter: None,
            control: None,
            group: "g",
        };
        assert_eq!(warnings(&broker, &plan), [""; 0], "it is empty");

        let producer: ThreadedProducer<_> = config(&broker).create().unwrap();
        for partition in [0, 1, 1] {
            let record = BaseRecord::<(), _>::to("a-retry").payload("x");
            producer.send(record.partition(partition)).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
        let said = warnings(&broker, &plan);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].starts_with("topic `a-retry` holds 3 records that group `g`"),
            "{said:?}"
        );

        assert!(said[0].contains("no retry topic is configured"), "{said:?}");

        let with = |retry, dead_letter, origins| TopicPlan {
            retry,
            dead_letter,
            origins,
            ..plan
        };
        let both = ["a", "a-retry"].map(str::to_owned);
        for other in [
            with(Some("a-retry"), None, &origins[..]),
            with(None, Some("a-retry"), &origins[..]),
            with(None, None, &both),
            with(None, None, &origins[1..]),
        ] {
            assert_eq!(warnings(&broker, &other), [""; 0], "{other:?}");
        }
        let beside_another = with(Some("b"), None, &origins[..1]);
        assert_eq!(
            warnings(&broker, &beside_another),
            [""; 0],
            "another group's"
        );

        let mut of_group = config(&broker);
        of_group.set("group.id", "g");
        let client: BaseConsumer = of_group.create().unwrap();
        let commit = |partition, offset| {
            let mut list = TopicPartitionList::new();
            list.add_partition_offset("a-retry", partition, Offset::Offset(offset))
                .unwrap();
            client
                .commit(&list, rdkafka::consumer::CommitMode::Sync)
                .unwrap();
        };
        commit(1, 1);
        assert!(warnings(&broker, &plan)[0].contains("holds 2 records"));
        let said = warnings(&broker, &beside_another);
        assert_eq!(said.len(), 1, "{said:?}");
        for part in ["`a-retry` holds 2 records", "configured is `b`"] {
            assert!(said[0].contains(part), "{said:?}");
        }
        commit(0, 1);
        commit(1, 2);
        assert_eq!(warnings(&broker, &plan), [""; 0], "all is committed");
    }
}
