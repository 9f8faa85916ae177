//! `keylane doctor`: what a group needs of its cluster.

mod finding;
mod metadata;
mod topics;

use std::collections::BTreeMap;

use keylane::operator::{Access, Broker, Members, Operator};

use super::Report;
use super::places::places;
use crate::arguments::GroupArguments;
use crate::connection::Connection;
use crate::failure::Failure;
use finding::Finding;
use topics::Topic;

pub(crate) fn run(
    connection: &Connection,
    group: &GroupArguments,
    retry_topics: &[String],
) -> Result<Report, Failure> {
    let operator = connection.operator(&group.group)?;
    let topics = topics(&operator, group, retry_topics)?;
    let mut findings = vec![brokers(&operator.brokers()?)];
    findings.extend(topics.iter().flat_map(|topic| topic.findings(&topics)));
    findings.push(group_access(&group.group, operator.access_to_group()));
    findings.push(protocol(&group.group, operator.members().ok()));
    if let Some(topic) = topics.first() {
        findings.push(metadata::check(connection, &group.group, &topic.name)?);
    }
    for topic in topics.iter().filter(|topic| topic.is_retry) {
        let readers = operator.other_readers(&topic.name, topic.partitions);
        findings.push(shared(&topic.name, readers.ok().flatten()));
    }
    findings.push(
        Finding::unknown(
            "clocks",
            "members",
            "not measured: it takes a write to a topic",
        )
        .fix("compare the clocks of members and brokers: retries are due by the members' clocks"),
    );
    Ok(finding::report(&findings))
}

/// The group's topics and what is to be known about each.
fn topics(
    operator: &Operator,
    group: &GroupArguments,
    retry_topics: &[String],
) -> Result<Vec<Topic>, Failure> {
    let mut names: Vec<String> = match group.topics.is_empty() {
        true => {
            let found = places(operator, group)?;
            found.places.into_iter().map(|place| place.topic).collect()
        }
        false => group.topics.clone(),
    };
    names.extend_from_slice(retry_topics);
    names.sort();
    names.dedup();
    let all: Vec<&str> = names.iter().map(|name| &**name).collect();
    let mut access: BTreeMap<String, Access> = operator.access_to_topics(&all);
    let topics = names.iter().map(|name| {
        let known = operator.topic(name)?;
        let origin = name.strip_suffix("-retry").map(str::to_owned);
        let origin = origin.filter(|origin| names.contains(origin));
        let without_leader = known
            .partitions
            .iter()
            .filter(|(_, has_leader)| !has_leader);
        Ok(Topic {
            name: name.clone(),
            partitions: i32::try_from(known.partitions.len()).unwrap_or(i32::MAX),
            without_leader: without_leader.map(|(partition, _)| *partition).collect(),
            is_retry: origin.is_some() || retry_topics.contains(name),
            origin,
            settings: operator.topic_settings(name).map_err(|it| it.to_string()),
            access: access.remove(name).unwrap_or_default(),
        })
    });
    topics.collect()
}

fn brokers(brokers: &[Broker]) -> Finding {
    let shown = brokers
        .iter()
        .map(|it| format!("{} ({})", it.id, it.address));
    Finding::ok("brokers", "cluster", shown.collect::<Vec<_>>().join(", "))
}

fn group_access(group: &str, access: Access) -> Finding {
    match access.read {
        Some(true) => Finding::ok("permissions", group, "READ on the group"),
        Some(false) => Finding::problem("permissions", group, "no READ on the group: no commits")
            .fix("allow READ on the group"),
        None => Finding::unknown("permissions", group, "the brokers do not say"),
    }
}

fn protocol(group: &str, members: Option<Members>) -> Finding {
    match members {
        Some(Members::Classic { state, count }) => {
            let text = format!("classic, {state}, {count} members");
            Finding::ok("group protocol", group, text)
        }
        Some(Members::Unknown) => {
            let text = "no members, or group.protocol=consumer, which this client cannot describe";
            Finding::unknown("group protocol", group, text)
        }
        None => Finding::unknown(
            "group protocol",
            group,
            "the coordinator does not describe it",
        )
        .fix("allow DESCRIBE on the group"),
    }
}

fn shared(topic: &str, readers: Option<Vec<String>>) -> Finding {
    match readers {
        Some(readers) if readers.is_empty() => {
            Finding::ok("retry topic", topic, "no other group has commits of it")
        }
        Some(readers) => {
            let text = format!("other groups read it too: {}", readers.join(", "));
            Finding::warning("retry topic", topic, text).fix(
                "give each group a retry topic of its own; see the manual on shared retry topics",
            )
        }
        None => Finding::unknown("retry topic", topic, "the other groups cannot be queried")
            .fix("allow DESCRIBE on the groups"),
    }
}

#[cfg(test)]
mod tests {
    use super::finding::Verdict;
    use super::*;

    #[test]
    fn a_shared_retry_topic_is_a_warning_with_the_names() {
        let finding = shared("a-retry", Some(vec!["one".into(), "two".into()]));
        assert_eq!(finding.verdict, Verdict::Warning);
        assert!(finding.text.ends_with("one, two") && finding.fix.is_some());
        assert_eq!(shared("a-retry", Some(vec![])).verdict, Verdict::Ok);
        assert_eq!(shared("a-retry", None).verdict, Verdict::Unknown);
    }

    #[test]
    fn a_group_that_may_not_be_read_is_a_problem() {
        let access = |read| Access { read, write: None };
        assert_eq!(
            group_access("g", access(Some(false))).verdict,
            Verdict::Problem
        );
        assert_eq!(group_access("g", access(Some(true))).verdict, Verdict::Ok);
        assert_eq!(group_access("g", access(None)).verdict, Verdict::Unknown);
    }
}
