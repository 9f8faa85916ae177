//! The partitions of a group, with what Kafka says about them.

use keylane::operator::{CommittedOffset, Operator, TopicPartitions};
use keylane_core::{CommitContent, LogId, LogRange, Position, Resume, SettledMap, commit_map};

use crate::arguments::GroupArguments;
use crate::failure::Failure;
use crate::output::Cell;

/// A partition of a group.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) topic: String,
    pub(super) partition: i32,
    /// `None` where nothing is committed, or it cannot be read. It may be about another log.
    pub(super) committed: Option<CommittedOffset>,
    /// The log that is there; `None` where the brokers do not name it.
    pub(super) log: Option<LogId>,
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
    /// The offsets from where a member begins to the end of the log; `None` where one of the two
    /// is unknown. An empty log has none, whatever is committed.
    pub(super) fn lag(&self) -> Option<u64> {
        let range = self.range?;
        let is_empty = range.first == range.end;
        let begin = self.begin().or(is_empty.then_some(range.end))?;
        let lag = range.end.get().saturating_sub(begin.get());
        Some(u64::try_from(lag).unwrap_or(0))
    }

    /// Where a member begins: at the first record where the commit is about another log. `None`
    /// where the group's own setting decides.
    pub(super) fn begin(&self) -> Option<Position> {
        match self.is_of_another_log() {
            true => self.range.map(|range| range.first),
            false => self.committed_position(),
        }
    }

    /// As it was committed, for whatever log.
    pub(super) fn committed_position(&self) -> Option<Position> {
        self.committed.as_ref().map(|it| it.position)
    }

    /// What is settled above the position in the log that is there.
    pub(super) fn settled(&self) -> SettledMap {
        let content = self.content().filter(|_| !self.is_of_another_log());
        content.unwrap_or_default().settled
    }

    /// What lies beside the position. What cannot be read counts as empty, as for members.
    pub(super) fn content(&self) -> Option<CommitContent> {
        let committed = self.committed.as_ref()?;
        let content = commit_map::decode(committed.position, &committed.metadata);
        Some(content.unwrap_or_default())
    }

    /// The topic was re-created since the commit.
    pub(super) fn is_of_another_log(&self) -> bool {
        let content = self.content();
        content.is_some_and(|it| matches!(Resume::of(it.log, self.log), Resume::FromStart(_)))
    }

    /// Whether the commit is about the log that is there; nothing where it names none.
    pub(super) fn of_this_log(&self) -> Cell {
        match self.content().map(|content| content.log) {
            None | Some(None) => Cell::Nothing,
            Some(Some(_)) if self.log.is_none() => Cell::Unknown,
            Some(Some(_)) => match self.is_of_another_log() {
                true => Cell::said("no: re-created", false),
                false => Cell::said("yes", true),
            },
        }
    }
}

/// The group's partitions: of the topics that are named, or of all that it has commits of.
pub(super) fn places(operator: &Operator, group: &GroupArguments) -> Result<Places, Failure> {
    chosen_places(operator, group, |_| true)
}

/// Those of the group's partitions that are chosen by number. The rest is not queried.
pub(super) fn chosen_places(
    operator: &Operator,
    group: &GroupArguments,
    is_chosen: impl Fn(i32) -> bool,
) -> Result<Places, Failure> {
    let topics: Vec<TopicPartitions> = match group.topics.is_empty() {
        true => operator.topics()?,
        false => {
            let named = group.topics.iter().map(|topic| operator.topic(topic));
            named.collect::<Result<_, _>>()?
        }
    };
    let numbered = topics.iter().flat_map(|it| {
        let numbers = it.partitions.iter().map(|(partition, _)| *partition);
        let chosen = numbers.filter(|partition| is_chosen(*partition));
        chosen.map(|partition| (it.topic.clone(), partition))
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
    let logs = operator.log_ids(&of_group);
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
            log: logs.get(topic).copied(),
            range: range.ok(),
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use keylane_core::{Evidence, Offset, SettledRange};
    use serde_json::json;

    use super::*;

    /// The position 50 with 52 settled, of the log 1.
    fn place(log: Option<LogId>) -> Place {
        let position = Position::new(50);
        let settled = SettledRange {
            first: Offset::new(52),
            last: Offset::new(52),
        };
        let about = LogId::of_topic(1, 0);
        let evidence = Evidence::default();
        let metadata = commit_map::encode_for(about, position, [settled], &evidence, 4_000).text;
        Place {
            topic: "a".to_owned(),
            partition: 0,
            committed: Some(CommittedOffset {
                position,
                leader_epoch: None,
                metadata,
            }),
            log,
            range: Some(LogRange {
                first: Position::new(10),
                end: Position::new(60),
            }),
        }
    }

    #[test]
    fn a_commit_of_another_log_counts_for_nothing_in_the_one_that_is_there() {
        let figures = |place: &Place| (place.begin(), place.lag(), !place.settled().is_empty());
        for (log, shown) in [
            (LogId::of_topic(1, 0), Cell::said("yes", true)),
            (None, Cell::Unknown),
        ] {
            let same = place(log);
            assert_eq!(figures(&same), (Some(Position::new(50)), Some(10), true));
            assert_eq!(same.of_this_log(), shown);
        }
        let another = place(LogId::of_topic(2, 0));
        assert_eq!(
            figures(&another),
            (Some(Position::new(10)), Some(50), false)
        );
        assert_eq!(another.committed_position(), Some(Position::new(50)));
        let Cell::Said { value, .. } = another.of_this_log() else {
            panic!("{:?}", another.of_this_log());
        };
        assert_eq!(value, json!(false));
    }
}
