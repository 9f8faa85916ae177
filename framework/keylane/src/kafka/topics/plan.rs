//! The checks a subscription's topics pass before it starts.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;

use super::cluster::{Cluster, Lookup};
use super::error::{NamedTopic, TopicError, TopicRole, forbidden_group, forbidden_topic};
use super::left_behind::left_behind;
use crate::kafka::permissions::Operation;

/// How long a missing topic is looked for: one that was just created is not known to every broker
/// at once.
const MISSING_GRACE: Duration = Duration::from_secs(2);

/// The topics of one subscription.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TopicPlan<'a> {
    pub(crate) origins: &'a [String],
    pub(crate) retry: Option<&'a str>,
    pub(crate) dead_letter: Option<&'a str>,
    pub(crate) control: Option<&'a str>,
    /// The consumer group.
    pub(crate) group: &'a str,
}

/// The cluster's answers about them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TopicReport {
    /// The number of partitions of each topic of the plan.
    pub(crate) partitions: BTreeMap<String, i32>,
    /// Not in the way of starting, but worth a log line each.
    pub(crate) warnings: Vec<String>,
    /// Whether there is a broker to ask for topic ids.
    pub(crate) answers_ids: bool,
}

/// A retry or dead-letter topic too small to keep the partition number; see
/// [`super::map_partition`].
#[derive(Clone, Debug, PartialEq, Eq)]
struct FewerPartitions {
    topic: NamedTopic,
    count: i32,
    origin: String,
    origin_count: i32,
}

impl fmt::Display for FewerPartitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            topic,
            count,
            origin,
            origin_count,
        } = self;
        write!(
            f,
            "{topic} has {count} partitions and origin topic `{origin}` has {origin_count}: records go to partition \
             number modulo {count}; give it {origin_count} partitions to keep the number"
        )
    }
}

/// Checks a plan: the names first, then with the cluster. Blocks, at most for `timeout` (and the
/// closing of a client).
///
/// Creates no topic. `client_config` must not join a group.
pub(crate) fn check(
    client_config: &ClientConfig,
    plan: &TopicPlan<'_>,
    timeout: Duration,
) -> Result<TopicReport, TopicError> {
    let topics = plan.named()?;
    let cluster = Cluster::new(client_config)?;
    let deadline = Instant::now() + timeout;
    let partitions = find(&cluster, &topics, plan.group, timeout)?;
    check_permissions(&cluster, &topics, &partitions, plan.group, deadline)?;
    let too_small = plan.too_small(&partitions);
    let mut warnings: Vec<_> = too_small.iter().map(ToString::to_string).collect();
    let left_behind = left_behind(&cluster, client_config, plan, deadline);
    warnings.extend(left_behind.iter().map(ToString::to_string));
    Ok(TopicReport {
        partitions,
        warnings,
        answers_ids: cluster.has_controller(),
    })
}

impl TopicPlan<'_> {
    /// Every topic with its role, if the names make sense together.
    fn named(&self) -> Result<Vec<NamedTopic>, TopicError> {
        let named = |role, name: &str| NamedTopic {
            role,
            name: name.to_owned(),
        };
        let mut topics: Vec<_> = self
            .origins
            .iter()
            .map(|name| named(TopicRole::Origin, name))
            .collect();
        topics.extend(self.retry.map(|name| named(TopicRole::Retry, name)));
        topics.extend(
            self.dead_letter
                .map(|name| named(TopicRole::DeadLetter, name)),
        );
        topics.extend(self.control.map(|name| named(TopicRole::Control, name)));

        if self.origins.is_empty() {
            return Err(TopicError::NoOrigin);
        }
        for (at, topic) in topics.iter().enumerate() {
            if let Err(rule) = keylane_core::check_topic_name(&topic.name) {
                return Err(TopicError::InvalidName {
                    topic: topic.clone(),
                    rule,
                });
            }
            if let Some(earlier) = topics[..at]
                .iter()
                .find(|earlier| earlier.name == topic.name)
            {
                let name = topic.name.clone();
                return Err(match topic.role {
                    TopicRole::Retry => TopicError::RetryIsOrigin { name },
                    TopicRole::DeadLetter => TopicError::DeadLetterIsConsumed {
                        name,
                        other: earlier.role,
                    },
                    TopicRole::Control => TopicError::ControlIsUsed {
                        name,
                        other: earlier.role,
                    },
                    _ => TopicError::DuplicateOrigin { name },
                });
            }
        }
        Ok(topics)
    }

    fn too_small(&self, partitions: &BTreeMap<String, i32>) -> Vec<FewerPartitions> {
        let count = |name: &str| partitions.get(name).copied().unwrap_or(0);
        let Some(largest) = self.origins.iter().max_by_key(|name| count(name)) else {
            return Vec::new();
        };
        let targets = [
            (TopicRole::Retry, self.retry),
            (TopicRole::DeadLetter, self.dead_letter),
        ];
        targets
            .into_iter()
            .filter_map(|(role, name)| {
                Some(NamedTopic {
                    role,
                    name: name?.to_owned(),
                })
            })
            .filter(|topic| count(&topic.name) < count(largest))
            .map(|topic| FewerPartitions {
                count: count(&topic.name),
                topic,
                origin: largest.clone(),
                origin_count: count(largest),
            })
            .collect()
    }
}

/// The partition counts of all topics, or one error that names all the missing ones.
fn find(
    cluster: &Cluster,
    topics: &[NamedTopic],
    group: &str,
    timeout: Duration,
) -> Result<BTreeMap<String, i32>, TopicError> {
    let started = Instant::now();
    let deadline = started + timeout;
    let mut partitions = BTreeMap::new();
    let mut missing = look_up_all(cluster, topics, &mut partitions, started, deadline)?;
    let give_up = deadline.min(Instant::now() + MISSING_GRACE);
    while !missing.is_empty() && Instant::now() < give_up {
        cluster.pause(give_up);
        missing = match look_up_all(cluster, &missing, &mut partitions, started, deadline) {
            Ok(missing) => missing,
            // The brokers did answer; that the time is up by now is the missing topics' fault.
            Err(TopicError::Unreachable { .. }) => break,
            Err(error) => return Err(error),
        };
    }
    if missing.is_empty() {
        Ok(partitions)
    } else {
        Err(TopicError::Missing {
            bootstrap_servers: cluster.bootstrap_servers().to_owned(),
            group: group.to_owned(),
            topics: missing,
        })
    }
}

/// One error for everything that the brokers report as forbidden. What they do not report shows
/// when it is tried.
fn check_permissions(
    cluster: &Cluster,
    topics: &[NamedTopic],
    partitions: &BTreeMap<String, i32>,
    group: &str,
    deadline: Instant,
) -> Result<(), TopicError> {
    let names: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
    let allowed = cluster.allowed_on(&names, deadline);
    let mut forbidden = Vec::new();
    for topic in topics {
        // One without partitions was neither found nor missing: it may not be described.
        let is_hidden = !partitions.contains_key(&topic.name);
        let is_forbidden = |operation| {
            is_hidden
                || allowed
                    .get(&topic.name)
                    .is_some_and(|it| it.forbids(operation))
        };
        let needs = topic
            .role
            .needs()
            .iter()
            .filter(|operation| is_forbidden(**operation));
        forbidden.extend(needs.map(|operation| forbidden_topic(topic, *operation)));
    }
    if cluster
        .allowed_on_group(group, deadline)
        .forbids(Operation::Read)
    {
        forbidden.push(forbidden_group(group));
    }
    if forbidden.is_empty() {
        Ok(())
    } else {
        Err(TopicError::Forbidden { forbidden })
    }
}

/// Enters the topics that exist into `partitions` and returns those that do not.
fn look_up_all(
    cluster: &Cluster,
    topics: &[NamedTopic],
    partitions: &mut BTreeMap<String, i32>,
    started: Instant,
    deadline: Instant,
) -> Result<Vec<NamedTopic>, TopicError> {
    let mut missing = Vec::new();
    for topic in topics {
        match cluster.look_up(topic, started, deadline)? {
            Lookup::Found { partitions: count } => {
                partitions.insert(topic.name.clone(), count);
            }
            Lookup::Missing => missing.push(topic.clone()),
            // What else is forbidden is found with it, later.
            Lookup::Forbidden => {}
        }
    }
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(origins: &[&str], retry: Option<&str>, dead_letter: Option<&str>) -> String {
        let origins: Vec<_> = origins.iter().map(|&name| name.to_owned()).collect();
        // The names are refused before any connection: there is no broker here.
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", "127.0.0.1:1");
        let plan = TopicPlan {
            origins: &origins,
            retry,
            dead_letter,
            control: None,
            group: "g",
        };
        check(&config, &plan, Duration::ZERO)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn names_that_cannot_work_together_are_refused_with_the_fix() {
        assert_eq!(
            refusal(&[], None, None),
            "no origin topic: name at least one topic to consume"
        );
        assert_eq!(
            refusal(&["a", "b", "a"], None, None),
            "origin topic `a` is named twice: name it once"
        );
        assert!(
            refusal(&["a", "b"], Some("b"), None)
                .starts_with("retry topic `b` is also an origin topic")
        );
        assert!(
            refusal(&["a"], Some("r"), Some("a"))
                .contains("`a` is also the subscription's origin topic")
        );
        assert!(
            refusal(&["a"], Some("r"), Some("r"))
                .contains("`r` is also the subscription's retry topic")
        );
        assert!(
            refusal(&["a"], Some("no spaces"), None)
                .starts_with("retry topic `no spaces`: a topic name consists")
        );
    }

    #[test]
    fn brokers_that_refuse_the_connection_are_named_with_the_reason() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let closed_port = listener.local_addr().unwrap().to_string();
        drop(listener);
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &closed_port);
        let plan = TopicPlan {
            origins: &["a".to_owned()],
            retry: None,
            dead_letter: None,
            control: None,
            group: "g",
        };
        let error = check(&config, &plan, Duration::from_secs(5)).unwrap_err();
        assert!(matches!(error, TopicError::Unreachable { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains(&closed_port) && text.contains("Connection refused"),
            "{text}"
        );
    }

    #[test]
    fn a_broker_that_accepts_and_says_nothing_is_given_up_on() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap().to_string();
        let (done, finished) = std::sync::mpsc::channel();
        let check_it = move || {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", address);
            let plan = TopicPlan {
                origins: &["a".to_owned()],
                retry: None,
                dead_letter: None,
                control: None,
                group: "g",
            };
            done.send(check(&config, &plan, Duration::from_millis(800)))
                .unwrap();
        };
        std::thread::spawn(check_it);
        let answer = finished
            .recv_timeout(Duration::from_secs(30))
            .expect("the check ends, its client closed");
        assert!(
            matches!(answer, Err(TopicError::Unreachable { .. })),
            "{answer:?}"
        );
    }

    #[test]
    fn a_setting_that_librdkafka_refuses_is_named() {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", "127.0.0.1:1")
            .set("socket.timeout.ms", "soon");
        let plan = TopicPlan {
            origins: &["a".to_owned()],
            retry: None,
            dead_letter: None,
            control: None,
            group: "g",
        };
        let text = check(&config, &plan, Duration::ZERO)
            .unwrap_err()
            .to_string();
        assert!(text.contains("socket.timeout.ms"), "{text}");

        config.set("bootstrap.servers", " ");
        let text = check(&config, &plan, Duration::ZERO)
            .unwrap_err()
            .to_string();
        assert!(text.contains("bootstrap.servers is empty"), "{text}");
    }
}

#[cfg(test)]
mod broker_tests {
    use super::*;
    use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};

    fn config(broker: &EmbeddedBroker) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", broker.bootstrap_servers());
        config
    }

    #[test]
    fn existing_topics_pass_and_a_topic_too_small_is_a_warning() {
        let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
        for (name, partitions) in [("small", 2), ("large", 6), ("retry", 6), ("dead", 4)] {
            broker.create_topic(name, partitions).unwrap();
        }
        let origins = ["small".to_owned(), "large".to_owned()];
        let plan = TopicPlan {
            origins: &origins,
            retry: Some("retry"),
            dead_letter: Some("dead"),
            control: None,
            group: "g",
        };
        let report = check(&config(&broker), &plan, Duration::from_secs(10)).unwrap();
        let counts = [("dead", 4), ("large", 6), ("retry", 6), ("small", 2)];
        assert_eq!(
            report.partitions,
            counts.map(|(name, count)| (name.to_owned(), count)).into()
        );
        assert_eq!(
            report.warnings,
            [
                "dead-letter topic `dead` has 4 partitions and origin topic `large` has 6: records go to partition number \
              modulo 4; give it 6 partitions to keep the number"
            ]
        );
    }

    #[test]
    fn all_missing_topics_are_named_in_one_error_and_none_is_created() {
        let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
        broker.create_topic("here", 1).unwrap();
        let origins = ["here".to_owned(), "gone".to_owned()];
        let plan = TopicPlan {
            origins: &origins,
            retry: Some("gone-retry"),
            dead_letter: Some("gone-dead"),
            control: None,
            group: "g",
        };
        for _ in 0..2 {
            // The second time shows that the first did not create them.
            let text = check(&config(&broker), &plan, Duration::from_secs(3))
                .unwrap_err()
                .to_string();
            let list =
                "origin topic `gone`, retry topic `gone-retry`, dead-letter topic `gone-dead`";
            assert!(
                text.starts_with("3 topics do not exist on") && text.contains(list),
                "{text}"
            );
        }
    }

    #[test]
    fn a_topic_created_a_moment_later_is_still_found() {
        let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
        let config = config(&broker);
        let plan = TopicPlan {
            origins: &["late".to_owned()],
            retry: None,
            dead_letter: None,
            control: None,
            group: "g",
        };
        let cluster = Cluster::new(&config).unwrap();
        let topics = plan.named().unwrap();
        let (started, mut partitions) = (Instant::now(), BTreeMap::new());
        let deadline = started + Duration::from_secs(10);
        let missing = look_up_all(&cluster, &topics, &mut partitions, started, deadline).unwrap();
        assert_eq!(missing, topics);
        broker.create_topic("late", 3).unwrap();
        assert_eq!(
            find(&cluster, &missing, "g", Duration::from_secs(10)).unwrap(),
            [("late".to_owned(), 3)].into()
        );
    }
}
