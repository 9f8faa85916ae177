//! The operations topic of a group, and the topics that a redrive writes to.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use keylane_core::LogId;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode as Code;

use super::SeekReader;
use super::operator::block_on;
use super::permissions::Allowed;
use super::topic_ids::{Answer, Inquiry};
use super::topics::{Cluster, LastError, Lookup, NamedTopic, TopicRole};
use crate::kafka::config::{ClientSettings, creation_error};
use crate::record::Record;

/// All records of a group's operations are in one order.
const PARTITION: i32 = 0;
const AGAIN_AFTER: Duration = Duration::from_millis(100);
const LOG_IDS_WITHIN: Duration = Duration::from_secs(10);

/// How far the operations topic is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpsEnd {
    /// To the first transaction that is open.
    Stable,
    /// To the last record. That waits for transactions that are open: of tasks on other dead-letter
    /// topics, once the lock of the own one is taken. A broker ends them when their time is up.
    Last,
}

/// The operations topic, as it is read and followed. Its calls block.
pub(crate) struct OpsLog {
    reader: SeekReader,
    cluster: Cluster,
    topic: String,
    patience: Duration,
}

impl OpsLog {
    /// `None` where the topic does not exist. `config` is a reader's.
    pub(crate) fn open(
        config: &ClientSettings,
        topic: &str,
        patience: Duration,
    ) -> Result<Option<Self>, String> {
        let mut config = config.clone();
        // A client without `read_committed` would read the records of a transaction that was
        // aborted.
        config.set("isolation.level", "read_committed");
        let mut of_queries = config.clone();
        // For the end itself: records behind an open transaction may be committed.
        of_queries.set("isolation.level", "read_uncommitted");
        let cluster = Cluster::new(&of_queries).map_err(|error| error.to_string())?;
        match look_up(&cluster, TopicRole::Operations, topic, patience)? {
            None => return Ok(None),
            Some(1) => {}
            Some(partitions) => {
                return Err(format!(
                    "it has {partitions} partitions; create it with 1 partition and cleanup.policy=compact"
                ));
            }
        }
        Ok(Some(Self {
            reader: SeekReader::open(&config, topic, [PARTITION])?,
            cluster,
            topic: topic.to_owned(),
            patience,
        }))
    }

    /// Reads from the beginning to an end that it has now.
    pub(crate) fn read_all(&mut self, end: OpsEnd, take: impl FnMut(Record)) -> Result<(), String> {
        let (first, mut until) = self.reader.ends(PARTITION, self.patience)?;
        if end == OpsEnd::Last {
            let client = self.cluster.client();
            let ends = client.fetch_watermarks(&self.topic, PARTITION, self.patience);
            until = ends
                .map_err(|error| format!("its end is not known: {error}"))?
                .1;
        }
        let end = until;
        self.reader.seek(PARTITION, first)?;
        self.reader.read_until(end, self.patience, take)
    }

    /// The ids of the logs that these topics have now, as text; those that no broker names are
    /// missing.
    pub(crate) fn log_ids(&self, topics: &[&str]) -> BTreeMap<String, String> {
        log_ids(&self.cluster, topics, self.patience)
    }

    /// Hands out what has come since; waits at most so long for it.
    pub(crate) fn follow(
        &mut self,
        wait: Duration,
        take: impl FnMut(Record),
    ) -> Result<(), String> {
        self.reader.read(wait, take)
    }
}

/// The id of the log that a dead-letter topic has now, where a broker names it. An error is none:
/// reading the topic reports it.
pub(crate) fn log_of(config: &ClientSettings, topic: &str, patience: Duration) -> Option<String> {
    let cluster = Cluster::new(config).ok()?;
    // The answer names the controller, too.
    look_up(&cluster, TopicRole::DeadLetter, topic, patience).ok()?;
    log_ids(&cluster, &[topic], patience).remove(topic)
}

fn log_ids(cluster: &Cluster, topics: &[&str], patience: Duration) -> BTreeMap<String, String> {
    // librdkafka's mock names a controller that does not exist, and nothing would answer.
    if topics.is_empty() || !cluster.has_controller() {
        return BTreeMap::new();
    }
    let within = patience.min(LOG_IDS_WITHIN);
    log_ids_by(cluster.client(), topics, within).unwrap_or_default()
}

/// The same, by a client whose brokers name a controller. `None` where none answers.
pub(super) fn log_ids_by(
    client: &BaseConsumer<LastError>,
    topics: &[&str],
    within: Duration,
) -> Option<BTreeMap<String, String>> {
    let inquiry = Inquiry::send(client, topics, within);
    let Answer::Logs(logs) = inquiry.answer(within) else {
        return None;
    };
    let text = |(topic, log): (String, LogId)| {
        (
            topic,
            format!("{:016x}", u64::from_le_bytes(log.to_bytes())),
        )
    };
    Some(logs.into_iter().map(text).collect())
}

/// Creates an operations topic, unless there is one. This client has to be allowed to read and write
/// it.
pub(crate) fn create_ops_topic(
    config: &ClientSettings,
    topic: &str,
    patience: Duration,
) -> Result<(), String> {
    let cluster = Cluster::new(config).map_err(|error| error.to_string())?;
    let exists = || look_up(&cluster, TopicRole::Operations, topic, patience);
    if exists()?.is_some() {
        let role = TopicRole::Operations;
        return match forbidden(&cluster, role, &[topic], patience) {
            Some(_) => Err(advice_on(role)),
            None => Ok(()),
        };
    }
    let advice =
        "create it with 1 partition and cleanup.policy=compact, or allow this client CREATE on it";
    let admin: AdminClient<LastError> = config
        .create_with_context(LastError::default())
        .map_err(|error| creation_error(error).to_string())?;
    let new = NewTopic::new(topic, 1, TopicReplication::Fixed(-1)).set("cleanup.policy", "compact");
    let options = AdminOptions::new()
        .request_timeout(Some(patience))
        .operation_timeout(Some(patience / 2));
    let created = block_on(admin.create_topics([&new], &options));
    let refused =
        |reason: String| format!("it does not exist and cannot be created: {reason}; {advice}");
    for answer in created.map_err(|error| refused(error.to_string()))? {
        match answer {
            Ok(_) | Err((_, Code::TopicAlreadyExists)) => {}
            Err((_, code)) => return Err(refused(code.to_string())),
        }
    }
    // Not every broker has heard of it at once.
    let deadline = Instant::now() + patience;
    while exists()?.is_none() {
        if Instant::now() >= deadline {
            return Err("it was created, and no broker lists it".to_owned());
        }
        std::thread::sleep(AGAIN_AFTER);
    }
    Ok(())
}

/// The number of partitions of each of these topics, which this client has to be allowed to write
/// to. An error names its topic.
pub(crate) fn writable_topics(
    config: &ClientSettings,
    topics: &[String],
    patience: Duration,
) -> Result<BTreeMap<String, i32>, (String, String)> {
    let mut partitions = BTreeMap::new();
    let Some(first) = topics.first() else {
        return Ok(partitions);
    };
    let cluster = Cluster::new(config).map_err(|error| (first.clone(), error.to_string()))?;
    for topic in topics {
        let found = look_up(&cluster, TopicRole::Target, topic, patience);
        let found = found.map_err(|reason| (topic.clone(), reason))?;
        let missing = || (topic.clone(), "it does not exist; create it".to_owned());
        partitions.insert(topic.clone(), found.ok_or_else(missing)?);
    }
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    let role = TopicRole::Target;
    match forbidden(&cluster, role, &names, patience) {
        Some(topic) => Err((topic, advice_on(role))),
        None => Ok(partitions),
    }
}

/// One of these topics that this client may not use as its role needs it.
fn forbidden(
    cluster: &Cluster,
    role: TopicRole,
    topics: &[&str],
    patience: Duration,
) -> Option<String> {
    let allowed = cluster.allowed_on(topics, Instant::now() + patience);
    let is_forbidden = |it: &Allowed| role.needs().iter().any(|need| it.forbids(*need));
    let mut forbidden = allowed.into_iter().filter(|(_, it)| is_forbidden(it));
    forbidden.next().map(|(topic, _)| topic)
}

fn advice_on(role: TopicRole) -> String {
    let needs = match role {
        TopicRole::Operations => "READ and WRITE (and CREATE, where it does not exist)",
        _ => "WRITE (and READ, with a canary)",
    };
    format!("the cluster's ACLs do not let this client use it; allow {needs} on it")
}

fn look_up(
    cluster: &Cluster,
    role: TopicRole,
    topic: &str,
    patience: Duration,
) -> Result<Option<i32>, String> {
    let started = Instant::now();
    let name = topic.to_owned();
    let found = cluster.look_up(&NamedTopic { role, name }, started, started + patience);
    match found.map_err(|error| error.to_string())? {
        Lookup::Found { partitions } => Ok(Some(partitions)),
        Lookup::Missing => Ok(None),
        Lookup::Forbidden => Err(advice_on(role)),
    }
}
