//! The dead-letter topics of which a state has dropped something. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// More are not told apart: then every topic is one of them.
const MOST_TASKS: usize = 10_000;
const MOST_TOPICS: usize = 1_000;

/// A topic, and its log.
type Topic = (String, Option<String>);

#[derive(Clone, Debug, Default)]
pub(super) struct Lost {
    /// Tasks whose orders were dropped, and their topics, where they are known. Their tombstones
    /// remove them.
    pub(super) tasks: BTreeMap<String, Option<Topic>>,
    /// The topics of resolved ranges that were dropped.
    resolutions: BTreeSet<String>,
    is_of_all: bool,
}

impl Lost {
    pub(super) fn task(&mut self, id: &str, topic: Option<Topic>) {
        if self.tasks.len() < MOST_TASKS || self.tasks.contains_key(id) {
            self.tasks.insert(id.to_owned(), topic);
        } else {
            self.is_of_all = true;
        }
    }

    pub(super) fn resolutions(&mut self, topic: String) {
        if self.resolutions.len() < MOST_TOPICS || self.resolutions.contains(&topic) {
            self.resolutions.insert(topic);
        } else {
            self.is_of_all = true;
        }
    }

    /// Whether something of this topic was dropped. A task of another log does not count.
    pub(super) fn is_of(&self, topic: &str, is_log: impl Fn(Option<&str>) -> bool) -> bool {
        let is_of_topic = |task: &Option<Topic>| match task {
            Some((it, log)) => it == topic && is_log(log.as_deref()),
            None => true,
        };
        self.is_of_all || self.resolutions.contains(topic) || self.tasks.values().any(is_of_topic)
    }
}
