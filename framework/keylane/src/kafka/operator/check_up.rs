//! What a check-up of a group's surroundings queries besides. librdkafka's mock answers none of
//! these queries, and would not refuse them in time: where the brokers name no controller, nothing
//! is asked.

use std::collections::BTreeMap;
use std::thread;

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, KafkaResult};

use super::{Operator, OperatorError};
use crate::kafka::config::creation_error;
use crate::kafka::describe::controller;
use crate::kafka::other_groups::has_commits;
use crate::kafka::permissions::{self, Allowed, Operation};
use crate::kafka::topics::LastError;

/// More groups are not queried: each takes a round trip.
const MOST_GROUPS: usize = 1_000;

/// What this client may do with a resource; `None` where no broker says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Whether it may read.
    pub read: Option<bool>,
    /// Whether it may write; of topics only.
    pub write: Option<bool>,
}

impl Access {
    fn of(allowed: &Allowed) -> Self {
        let is_known = *allowed != Allowed::Unknown;
        let may = |operation| is_known.then(|| !allowed.forbids(operation));
        Self {
            read: may(Operation::Read),
            write: may(Operation::Write),
        }
    }
}

impl Operator {
    /// What this client may do with topics; those not mentioned are unknown.
    pub fn access_to_topics(&self, topics: &[&str]) -> BTreeMap<String, Access> {
        if !self.has_controller() {
            return BTreeMap::new();
        }
        let allowed = permissions::on_topics(&self.client, topics, self.patience).into_iter();
        let access = allowed.map(|(topic, allowed)| (topic, Access::of(&allowed)));
        access.collect()
    }

    /// What this client may do with the group.
    pub fn access_to_group(&self) -> Access {
        if !self.has_controller() {
            return Access::default();
        }
        Access::of(&permissions::on_group(
            &self.client,
            &self.group,
            self.patience,
        ))
    }

    /// The settings of a topic, by name.
    ///
    /// # Errors
    /// Where the brokers do not answer, or refuse.
    pub fn topic_settings(&self, topic: &str) -> Result<BTreeMap<String, String>, OperatorError> {
        let answers = self.administer(format!("describe {topic}"), |admin, options| {
            let resource = [ResourceSpecifier::Topic(topic)];
            block_on(admin.describe_configs(&resource, options))
        })?;
        let mut settings = BTreeMap::new();
        for answer in answers {
            let resource =
                answer.map_err(|code| OperatorError::refused(format!("describe {topic}"), code))?;
            let entries = resource.entries.into_iter();
            settings.extend(entries.filter_map(|entry| Some((entry.name, entry.value?))));
        }
        Ok(settings)
    }

    /// Deletes the group and its commits.
    ///
    /// # Errors
    /// Where the coordinator does not answer, or refuses, as it does while the group has members.
    pub fn delete_group(&self) -> Result<(), OperatorError> {
        let doing = format!("delete group {}", self.group);
        let answers = self.administer(doing.clone(), |admin, options| {
            block_on(admin.delete_groups(&[&self.group], options))
        })?;
        let refused = answers.into_iter().find_map(Result::err);
        refused.map_or(Ok(()), |(_, code)| Err(OperatorError::refused(doing, code)))
    }

    /// The other groups that have commits of a topic with so many partitions; `None` where there
    /// are too many groups to query.
    ///
    /// # Errors
    /// Where the brokers do not answer.
    pub fn other_readers(
        &self,
        topic: &str,
        partitions: i32,
    ) -> Result<Option<Vec<String>>, OperatorError> {
        let groups = self.client.fetch_group_list(None, self.patience);
        let groups = groups.map_err(|error| self.failed("list the groups", &error))?;
        let others = groups.groups().iter().map(|group| group.name().to_owned());
        let others: Vec<String> = others.filter(|group| *group != self.group).collect();
        if others.len() > MOST_GROUPS {
            return Ok(None);
        }
        let reads =
            |group: &String| has_commits(&self.client, topic, partitions, group, self.patience);
        let mut readers = Vec::new();
        for group in others {
            let is_reader = reads(&group).map_err(|code| {
                OperatorError::refused(format!("read what group {group} has committed"), code)
            })?;
            if is_reader {
                readers.push(group);
            }
        }
        Ok(Some(readers))
    }

    /// Whether there is a broker to ask for topic ids.
    pub fn has_controller(&self) -> bool {
        let brokers = self.brokers().unwrap_or_default();
        let controller = controller(&self.client);
        brokers.iter().any(|it| Some(it.id) == controller)
    }

    pub(super) fn administer<T>(
        &self,
        doing: String,
        request: impl FnOnce(&AdminClient<LastError>, &AdminOptions) -> KafkaResult<T>,
    ) -> Result<T, OperatorError> {
        if !self.has_controller() {
            return Err(OperatorError::Failed {
                doing,
                reason: "the brokers name no controller".to_owned(),
            });
        }
        let admin: AdminClient<LastError> = self
            .settings
            .create_with_context(LastError::default())
            .map_err(creation_error)?;
        let options = AdminOptions::new().request_timeout(Some(self.patience));
        request(&admin, &options).map_err(|error| self.failed(doing, &error))
    }
}

/// Waits on a thread of its own, because the caller may be one of a runtime.
pub(in crate::kafka) fn block_on<T: Send>(
    request: impl Future<Output = KafkaResult<T>> + Send,
) -> KafkaResult<T> {
    let wait = || {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.map_err(|_| KafkaError::Canceled)?.block_on(request)
    };
    let waited = thread::scope(|scope| scope.spawn(wait).join());
    waited.unwrap_or(Err(KafkaError::Canceled))
}
