//! `keylane map`: the decoded commit of a partition.

use keylane::operator::CommittedOffset;
use keylane_core::{CommitContent, Evidence, LogId, MapError, SettledMap, commit_map};
use serde_json::{Value, json};

use super::Report;
use crate::arguments::TopicPartition;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::output::{Cell, Table};

const COLUMNS: &[&str] = &[
    "group",
    "topic",
    "partition",
    "position",
    "commit_leader_epoch",
    "metadata_bytes",
    "content",
    "settled_ahead",
    "ranges",
    "log",
    "leader_epoch",
    "mark",
    "named",
    "unclean_starts",
    "suspects",
];

pub(crate) fn run(
    connection: &Connection,
    group: &str,
    partition: &TopicPartition,
) -> Result<Report, Failure> {
    let TopicPartition { topic, partition } = partition;
    let operator = connection.operator(group)?;
    let known = operator.topic(topic)?;
    if !known.partitions.iter().any(|(it, _)| it == partition) {
        let count = known.partitions.len();
        let text =
            format!("topic {topic} has {count} partitions, and none with number {partition}");
        return Err(Failure::Refused(text));
    }
    let offsets = operator.committed(&[(topic.clone(), *partition)])?;
    let place = format!("{topic}/{partition}");
    let Some(offset) = offsets.into_iter().next() else {
        return Err(Failure::Refused(format!("no answer about {place}")));
    };
    if offset.is_refused {
        let text = format!("the broker refuses to show what {group} has committed for {place}");
        return Err(Failure::Refused(text));
    }
    let Some(committed) = offset.committed else {
        let text = format!("group {group} has committed nothing for {place}");
        return Err(Failure::Refused(text));
    };
    let there = operator.log_ids(&[topic]).get(topic).copied();
    let mut row = vec![
        Cell::text(group),
        Cell::text(topic),
        Cell::Number(i64::from(*partition)),
    ];
    row.extend(decoded(&committed, there));
    Ok(Table::of_one(COLUMNS, row).into())
}

/// The cells from the position on.
fn decoded(committed: &CommittedOffset, there: Option<LogId>) -> Vec<Cell> {
    let decoded = commit_map::decode(committed.position, &committed.metadata);
    let content = content(&decoded, committed.metadata.is_empty());
    let epoch = committed.leader_epoch;
    let epoch = epoch.map_or(Cell::Nothing, |it| Cell::Number(it.get().into()));
    let mut row = vec![
        Cell::Number(committed.position.get()),
        epoch,
        Cell::count(committed.metadata.len() as u64),
        content,
    ];
    let CommitContent {
        settled,
        evidence,
        log,
        leader_epoch,
    } = decoded.unwrap_or_default();
    row.extend([
        Cell::count(settled_records(&settled)),
        ranges(&settled),
        log_cell(log, there),
        leader_epoch.map_or(Cell::Nothing, |it| Cell::Number(it.get().into())),
        mark(&evidence),
        named(&evidence),
        Cell::Number(evidence.unclean_starts.into()),
        suspects(&evidence),
    ]);
    row
}

/// What a commit's metadata is.
pub(super) fn content(decoded: &Result<CommitContent, MapError>, is_empty: bool) -> Cell {
    match decoded {
        Ok(_) if is_empty => Cell::said("empty: nothing is settled ahead", "empty"),
        Ok(_) => Cell::said("of keylane", "keylane"),
        Err(error) => {
            let value = match error {
                MapError::Foreign => "foreign",
                MapError::Version(_) => "other_version",
                _ => "damaged",
            };
            Cell::said(error.to_string(), value)
        }
    }
}

/// How many offsets a map names.
pub(super) fn settled_records(map: &SettledMap) -> u64 {
    let records = |range: keylane_core::SettledRange| {
        u64::try_from(range.last.get() - range.first.get() + 1).unwrap_or(0)
    };
    map.ranges().map(records).sum()
}

fn ranges(map: &SettledMap) -> Cell {
    let pairs: Vec<(i64, i64)> = map
        .ranges()
        .map(|range| (range.first.get(), range.last.get()))
        .collect();
    let words = pairs.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    let values = pairs
        .iter()
        .map(|(first, last)| json!({"first": first, "last": last}));
    listed(words.collect(), values.collect())
}

/// The log by its name in commits, and whether it is the one that is there.
fn log_cell(log: Option<LogId>, there: Option<LogId>) -> Cell {
    let Some(log) = log else {
        return Cell::Nothing;
    };
    let id = u64::from_le_bytes(log.to_bytes());
    let is_there = there.map(|there| there == log);
    let words = match is_there {
        Some(true) => "the one that is there",
        Some(false) => "another one: the topic was re-created, and is read from its start",
        None => "unknown whether it is the one that is there",
    };
    let id = format!("{id:016x}");
    let value = json!({"id": id, "is_present": is_there});
    Cell::said(format!("{id}: {words}"), value)
}

fn mark(evidence: &Evidence) -> Cell {
    match evidence.running {
        Some(_) => Cell::said(
            "set: a member runs, or has died without an orderly end",
            true,
        ),
        None => Cell::said("not set: the last member ended in order", false),
    }
}

fn named(evidence: &Evidence) -> Cell {
    let offsets = evidence.named.offsets().iter().map(|offset| offset.get());
    let offsets: Vec<i64> = offsets.collect();
    let words = offsets.iter().map(i64::to_string).collect();
    listed(words, offsets.iter().map(|offset| json!(offset)).collect())
}

fn suspects(evidence: &Evidence) -> Cell {
    let suspects = &evidence.suspects;
    let words = suspects.iter().map(|suspect| {
        let verdict = if suspect.is_poison() { ", poison" } else { "" };
        format!(
            "{} (crashes: {}{verdict})",
            suspect.offset.get(),
            suspect.crashes
        )
    });
    let values = suspects.iter().map(|suspect| {
        json!({
            "offset": suspect.offset.get(),
            "crashes": suspect.crashes,
            "survived": suspect.survived,
            "is_poison": suspect.is_poison(),
        })
    });
    listed(words.collect(), values.collect())
}

fn listed(words: Vec<String>, values: Vec<Value>) -> Cell {
    let words = match words.is_empty() {
        true => "none".to_owned(),
        false => words.join(", "),
    };
    Cell::said(words, values)
}

#[cfg(test)]
mod tests {
    use keylane_core::{
        About, Instance, LeaderEpoch, Named, Offset, Position, SettledRange, Suspect,
    };

    use super::*;
    use crate::output::Format;

    fn shown(committed: &CommittedOffset, there: Option<LogId>, format: Format) -> String {
        Table::of_one(&COLUMNS[3..], decoded(committed, there)).render(format)
    }

    fn committed(position: i64, metadata: String) -> CommittedOffset {
        CommittedOffset {
            position: Position::new(position),
            leader_epoch: Some(LeaderEpoch::new(4)),
            metadata,
        }
    }

    fn of_keylane() -> CommittedOffset {
        let range = |first, last| SettledRange {
            first: Offset::new(first),
            last: Offset::new(last),
        };
        let evidence = Evidence {
            running: Some(Instance::new(7)),
            named: Named::Alone(Offset::new(41)),
            unclean_starts: 2,
            suspects: vec![Suspect {
                offset: Offset::new(41),
                crashes: 2,
                survived: false,
            }],
        };
        let about = About {
            log: LogId::of_topic(1, 2),
            leader_epoch: Some(LeaderEpoch::new(3)),
        };
        let position = Position::new(41);
        let ranges = [range(43, 45), range(50, 50)];
        let text = commit_map::encode_for(about, position, ranges, &evidence, 4_000).text;
        committed(41, text)
    }

    #[test]
    fn a_commit_of_keylane_is_shown_in_words() {
        let text = shown(&of_keylane(), LogId::of_topic(1, 2), Format::Table);
        for line in [
            "position             41",
            "commit leader epoch  4",
            "content              of keylane",
            "settled ahead        4",
            "ranges               43-45, 50",
            "log                  0000000000000003: the one that is there",
            "leader epoch         3",
            "mark                 set: a member runs, or has died without an orderly end",
            "named                41",
            "unclean starts       2",
            "suspects             41 (crashes: 2, poison)",
        ] {
            assert!(
                text.lines().any(|it| it == line),
                "{line} is not in\n{text}"
            );
        }
    }

    #[test]
    fn a_commit_of_keylane_is_shown_to_programs() {
        let text = shown(&of_keylane(), LogId::of_topic(8, 8), Format::Json);
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            value["ranges"],
            json!([{"first": 43, "last": 45}, {"first": 50, "last": 50}])
        );
        assert_eq!(
            value["log"],
            json!({"id": "0000000000000003", "is_present": false})
        );
        assert_eq!(value["settled_ahead"], 4);
        assert_eq!(value["mark"], true);
        assert_eq!(value["suspects"][0]["is_poison"], true);
    }

    #[test]
    fn a_commit_that_cannot_be_read_says_why_and_counts_as_empty() {
        let mut moved = of_keylane();
        moved.position = Position::new(40);
        let json = |committed: &CommittedOffset| -> Value {
            serde_json::from_str(&shown(committed, None, Format::Json)).unwrap()
        };
        assert_eq!(json(&moved)["content"], "damaged");
        assert_eq!(json(&moved)["settled_ahead"], 0);
        assert_eq!(json(&committed(1, "a note".into()))["content"], "foreign");
        assert_eq!(
            json(&committed(1, "kl9.AAAA".into()))["content"],
            "other_version"
        );
        assert_eq!(json(&committed(1, String::new()))["content"], "empty");
    }
}
