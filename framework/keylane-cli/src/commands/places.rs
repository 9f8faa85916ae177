//! The partitions of a group, with what Kafka says about them.

use keylane::operator::{CommittedOffset, Operator, TopicPartitions};
use keylane_core::{LogRange, Position, SettledMap, commit_map};

use crate::arguments::GroupArguments;
use crate::failure::Failure;

/// A partition of a group.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) topic: String,
    pub(super) partition: i32,
    /// `None` where nothing is committed, or it cannot be read.
    pub(super) committed: Option<CommittedOffset>,
    /// `None` where it cannot be read.
    pub(super) range: Option<LogRange>,
}

/// The partitions, and what could not be read of them.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub(super) places: Vec<Place>,
    pub(super) missing: Vec<String>,
}

impl Place {
    /// The offsets from the committed position to the end of the log; `None` where one of the two
    /// is unknown. An empty log has none, whatever is committed.
    pub(super) fn lag(&self) -> Option<u64> {
        let range = self.range?;
        let is_empty = range.first == range.end;
        let position = self.position().or(is_empty.then_some(range.end))?;
        let lag = range.end.get().saturating_sub(position.get());
        Some(u64::try_from(lag).unwrap_or(0))
    }

    pub(super) fn position(&self) -> Option<Position> {
        self.committed.as_ref().map(|it| it.position)
    }

    /// What is settled above the position. What cannot be read counts as empty, as for members.
    pub(super) fn settled(&self) -> SettledMap {
        let committed = self.committed.as_ref();
        let content = committed.map(|it| commit_map::decode(it.position, &it.metadata));
        content.and_then(Result::ok).unwrap_or_default().settled
    }
}

/// The group's partitions: of the topics that are named, or of all that it has commits of.
pub(super) fn places(operator: &Operator, group: &GroupArguments) -> Result<Places, Failure> {
    let topics: Vec<TopicPartitions> = match group.topics.is_empty() {
        true => operator.topics()?,
        false => {
            let named = group.topics.iter().map(|topic| operator.topic(topic));
            named.collect::<Result<_, _>>()?
        }
    };
    let numbered = topics.iter().flat_map(|it| {
        let numbers = it.partitions.iter().map(|(partition, _)| *partition);
        numbers.map(|partition| (it.topic.clone(), partition))
    });
    let offsets = operator.committed(&numbered.collect::<Vec<_>>())?;
    let is_of_group = |topic: &str| {
        let mut of_topic = offsets.iter().filter(|it| it.topic == topic);
        !group.topics.is_empty() || of_topic.any(|it| it.committed.is_some())
    };
    let of_group = topics.iter().map(|it| &*it.topic);
    let of_group: Vec<&str> = of_group.filter(|topic| is_of_group(topic)).collect();
    if of_group.is_empty() {
        let text = format!(
            "group {} has committed nothing for any topic that this client may see; name its topics with --topic",
            group.group
        );
        return Err(Failure::Refused(text));
    }
    let mut found = Places::default();
    for offset in &offsets {
        let (topic, partition) = (&offset.topic, offset.partition);
        if !of_group.contains(&&**topic) {
            continue;
        }
        if offset.is_refused {
            let text = format!("the broker refuses to show the commit of {topic}/{partition}");
            found.missing.push(text);
        }
        let range = operator.range(topic, partition);
        let range = range.inspect_err(|error| found.missing.push(error.to_string()));
        found.places.push(Place {
            topic: topic.clone(),
            partition,
            committed: offset.committed.clone(),
            range: range.ok(),
        });
    }
    Ok(found)
}
