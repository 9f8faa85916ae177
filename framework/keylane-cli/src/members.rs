//! Figures of members, from their admin endpoints: Kafka has none of them.

use std::collections::HashMap;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::Agent;

use crate::failure::Failure;

/// An answer about a thousand partitions has some hundred kB.
const LARGEST_ANSWER_BYTES: u64 = 32 * 1024 * 1024;
/// Of each list; the admin server's own limit.
const HOT_KEYS: usize = 1_000;

/// What the members of a group have answered.
#[derive(Debug, Default)]
pub(crate) struct Members {
    figures: HashMap<(String, i32), Figures>,
    /// What could not be asked.
    pub(crate) missing: Vec<String>,
}

/// A member's figures about a partition.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) running: u64,
    pub(crate) parked: u64,
    pub(crate) not_due: u64,
    pub(crate) workable_lag: Option<Duration>,
    /// The lowest offset that is not settled, as far as anything was delivered.
    pub(crate) watermark: Option<i64>,
    /// The record there, where it was delivered.
    pub(crate) oldest: Option<OldestRecord>,
    /// The key that takes the most time in attempts; `None` where the member did not answer that.
    pub(crate) hot_key: Option<Option<HotKey>>,
}

/// What a member does about the record that a commit waits for.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct OldestRecord {
    pub(crate) offset: i64,
    pub(crate) attempts: u32,
    pub(crate) state: String,
    pub(crate) last_error: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct HotKey {
    #[serde(rename = "key_hash")]
    pub(crate) hash: String,
    /// Of the partition's time in attempts, from 0 to 1.
    pub(crate) share: f64,
}

#[derive(Deserialize)]
struct SubscriptionList {
    subscriptions: Vec<Summary>,
}

#[derive(Deserialize)]
struct Summary {
    name: String,
    group: String,
}

#[derive(Deserialize)]
struct Detail {
    partitions: Vec<Partition>,
}

#[derive(Deserialize)]
struct Partition {
    topic: String,
    partition: i32,
    running: u64,
    parked: u64,
    not_due: u64,
    workable_lag_seconds: Option<f64>,
    watermark: Option<i64>,
    oldest: Option<OldestRecord>,
}

#[derive(Deserialize)]
struct HotKeyLists {
    by_time: Vec<HotKeyOfPartition>,
}

#[derive(Deserialize)]
struct HotKeyOfPartition {
    topic: String,
    partition: i32,
    #[serde(flatten)]
    key: HotKey,
}

impl Members {
    /// Asks each endpoint in turn. One that does not answer is listed as missing.
    ///
    /// # Errors
    /// Where an address is none of an admin endpoint.
    pub(crate) fn ask(
        endpoints: &[String],
        group: &str,
        patience: Duration,
    ) -> Result<Self, Failure> {
        let agent = agent(endpoints, patience)?;
        let mut members = Self::default();
        for endpoint in endpoints {
            let endpoint = endpoint.trim_end_matches('/');
            let asked = members.ask_one(&agent, endpoint, group);
            let failed = asked.unwrap_or_else(|reason| vec![reason]).into_iter();
            let shown = without_user(endpoint);
            let failed =
                failed.map(|reason| format!("{shown}: {}", reason.replace(endpoint, &shown)));
            members.missing.extend(failed);
        }
        Ok(members)
    }

    pub(crate) fn of(&self, topic: &str, partition: i32) -> Option<&Figures> {
        self.figures.get(&(topic.to_owned(), partition))
    }

    /// Returns what could not be asked besides.
    fn ask_one(
        &mut self,
        agent: &Agent,
        endpoint: &str,
        group: &str,
    ) -> Result<Vec<String>, String> {
        let mut missing = Vec::new();
        for name in subscriptions_of(agent, endpoint, group)? {
            let address = format!("{endpoint}/v1/subscriptions/{}", encoded(&name));
            let detail: Detail = get(agent, &address)?;
            let hot_keys = get(agent, &format!("{address}/hot-keys?limit={HOT_KEYS}"));
            let hot_keys: Option<HotKeyLists> = hot_keys
                .inspect_err(|reason| missing.push(format!("hot keys: {reason}")))
                .ok();
            self.add(detail, hot_keys.as_ref());
        }
        Ok(missing)
    }

    fn add(&mut self, detail: Detail, hot_keys: Option<&HotKeyLists>) {
        for partition in detail.partitions {
            let hot_key = hot_keys.map(|lists| {
                // The list begins with the hottest.
                let of_partition = |it: &&HotKeyOfPartition| {
                    it.topic == partition.topic && it.partition == partition.partition
                };
                let hottest = lists.by_time.iter().find(of_partition);
                hottest.map(|it| it.key.clone())
            });
            let workable = partition.workable_lag_seconds;
            let figures = Figures {
                running: partition.running,
                parked: partition.parked,
                not_due: partition.not_due,
                workable_lag: workable.and_then(|it| Duration::try_from_secs_f64(it).ok()),
                watermark: partition.watermark,
                oldest: partition.oldest,
                hot_key,
            };
            self.figures
                .insert((partition.topic, partition.partition), figures);
        }
    }
}

/// The names of a group's subscriptions at an endpoint.
pub(crate) fn subscriptions_of(
    agent: &Agent,
    endpoint: &str,
    group: &str,
) -> Result<Vec<String>, String> {
    let list: SubscriptionList = get(agent, &format!("{endpoint}/v1/subscriptions"))?;
    let of_group = list
        .subscriptions
        .into_iter()
        .filter(|it| it.group == group);
    let names: Vec<_> = of_group.map(|it| it.name).collect();
    if names.is_empty() {
        return Err(format!("no subscription of group {group}"));
    }
    Ok(names)
}

/// Asks admin endpoints.
///
/// # Errors
/// Where an address is none of an admin endpoint.
pub(crate) fn agent(endpoints: &[String], patience: Duration) -> Result<Agent, Failure> {
    if let Some(wrong) = endpoints.iter().find(|it| !it.starts_with("http://")) {
        let wrong = without_user(wrong);
        let text = format!("--admin {wrong}: give http://HOST:PORT; the endpoint has no TLS");
        return Err(Failure::Usage(text));
    }
    let config = Agent::config_builder()
        .timeout_global(Some(patience))
        .max_redirects(0)
        .proxy(None)
        .build();
    Ok(Agent::new_with_config(config))
}

fn get<T: DeserializeOwned>(agent: &Agent, address: &str) -> Result<T, String> {
    let mut answer = agent.get(address).call().map_err(|it| it.to_string())?;
    let body = answer.body_mut().with_config().limit(LARGEST_ANSWER_BYTES);
    let text = body.read_to_string().map_err(|it| it.to_string())?;
    serde_json::from_str(&text).map_err(|error| format!("not an answer of keylane: {error}"))
}

/// An address without its user and password, for messages.
pub(crate) fn without_user(address: &str) -> String {
    let (scheme, rest) = match address.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), address),
    };
    // A password may hold any character, also unescaped ones.
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    format!("{scheme}{host}")
}

/// A name as one segment of a path.
pub(crate) fn encoded(name: &str) -> String {
    let encoded = name.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    });
    encoded.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hottest_key_of_a_partition_is_the_first_of_its_list() {
        let detail = r#"{"partitions": [
            {"topic": "a", "partition": 0, "running": 2, "parked": 1, "not_due": 5, "workable_lag_seconds": 1.5,
             "watermark": 8, "oldest": null},
            {"topic": "a", "partition": 1, "running": 0, "parked": 0, "not_due": 0, "workable_lag_seconds": null}
        ]}"#;
        let lists = r#"{"by_records": [], "by_waiting": [], "by_time": [
            {"topic": "b", "partition": 0, "key_hash": "b0", "key": null, "share": 0.9, "seconds": 9.0},
            {"topic": "a", "partition": 0, "key_hash": "a0", "key": null, "share": 0.5, "seconds": 5.0},
            {"topic": "a", "partition": 0, "key_hash": "a00", "key": null, "share": 0.1, "seconds": 1.0}
        ]}"#;
        let mut members = Members::default();
        let lists: HotKeyLists = serde_json::from_str(lists).unwrap();
        members.add(serde_json::from_str(detail).unwrap(), Some(&lists));
        let first = members.of("a", 0).unwrap();
        assert_eq!((first.running, first.parked, first.not_due), (2, 1, 5));
        assert_eq!((first.watermark, first.oldest.is_none()), (Some(8), true));
        assert_eq!(first.workable_lag, Some(Duration::from_millis(1_500)));
        let hot_key = |figures: &Figures| figures.hot_key.clone().map(|it| it.map(|it| it.hash));
        assert_eq!(hot_key(first), Some(Some("a0".to_owned())));
        let second = members.of("a", 1).unwrap();
        assert_eq!((second.workable_lag, hot_key(second)), (None, Some(None)));
        // Where the member did not answer that, it is unknown.
        members.add(serde_json::from_str(detail).unwrap(), None);
        assert_eq!(hot_key(members.of("a", 0).unwrap()), None);
    }

    #[test]
    fn no_message_shows_the_user_or_the_password_of_an_address() {
        for (address, shown) in [
            ("http://host:1", "http://host:1"),
            ("https://user:hunter2@host:1", "https://host:1"),
            ("user:hunter2@host", "host"),
            ("http://user:hun/te@r2@host", "http://host"),
        ] {
            assert_eq!(without_user(address), shown);
        }
        let ask = |address: &str| {
            let patience = Duration::from_secs(10);
            let asked = Members::ask(&[address.to_owned()], "group", patience);
            let texts = asked.map(|it| it.missing.join(", "));
            texts.unwrap_or_else(|failure| failure.to_string())
        };
        // Nothing listens to the port 1, the second is no address, the third has TLS.
        for address in [
            "http://user:hunter2@127.0.0.1:1",
            "http://user:hunter2@a host",
            "https://user:hunter2@host",
        ] {
            let text = ask(address);
            assert!(!text.is_empty() && !text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn a_name_is_one_segment_of_a_path() {
        assert_eq!(encoded("parking-notifier.v2"), "parking-notifier.v2");
        assert_eq!(encoded("a/b ü"), "a%2Fb%20%C3%BC");
    }
}
