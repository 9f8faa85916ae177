//! `keylane oldest`: the record that each commit waits for.

use std::collections::BTreeMap;
use std::time::SystemTime;

use keylane::operator::{Operator, RecordHead};
use keylane_core::{Position, SettledMap};

use super::Report;
use super::places::{Place, places};
use crate::arguments::GroupArguments;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::output::{Cell, Table};

const COLUMNS: &[&str] = &[
    "topic",
    "partition",
    "of_this_log",
    "lag",
    "offset",
    "timestamp",
    "age_seconds",
];

/// What is known about a partition's oldest unsettled record.
enum Oldest {
    Record(RecordHead),
    /// All is settled, or what is left are no records, such as markers of transactions.
    Nothing,
    Unknown,
}

pub(crate) fn run(connection: &Connection, group: &GroupArguments) -> Result<Report, Failure> {
    let operator = connection.operator(&group.group)?;
    let mut found = places(&operator, group)?;
    let mut rows = Vec::new();
    let mut rest = found.places.as_slice();
    while let Some(first) = rest.first() {
        let count = rest.iter().take_while(|it| it.topic == first.topic).count();
        let (of_topic, after) = rest.split_at(count);
        rest = after;
        let mut read = read(&operator, of_topic).unwrap_or_else(|error| {
            found.missing.push(error.to_string());
            BTreeMap::new()
        });
        for place in of_topic {
            let oldest = match (place.lag(), read.remove(&place.partition)) {
                (Some(0), _) | (_, Some(None)) => Oldest::Nothing,
                (_, Some(Some(head))) => Oldest::Record(head),
                (_, None) => Oldest::Unknown,
            };
            if matches!((&oldest, place.lag()), (Oldest::Unknown, Some(_))) {
                let (topic, partition) = (&place.topic, place.partition);
                let text = format!("no record of {topic}/{partition} could be read in time");
                found.missing.push(text);
            }
            rows.push((place, oldest));
        }
    }
    // The longest waiting first; what is unknown before what is settled.
    rows.sort_by_key(|(_, oldest)| match oldest {
        Oldest::Record(head) => (0, head.timestamp),
        Oldest::Unknown => (1, None),
        Oldest::Nothing => (2, None),
    });
    let mut table = Table::new(COLUMNS);
    let now = SystemTime::now();
    rows.iter()
        .for_each(|(place, oldest)| table.push(row(place, oldest, now)));
    Ok(Report {
        missing: found.missing,
        ..table.into()
    })
}

/// Reads the partitions of one topic that have lag.
fn read(
    operator: &Operator,
    places: &[Place],
) -> Result<BTreeMap<i32, Option<RecordHead>>, Failure> {
    let behind = places.iter().filter(|place| place.lag() > Some(0));
    let start = |place: &Place| {
        let (begin, range) = (place.begin()?, place.range?);
        Some((place.partition, begin.max(range.first)))
    };
    let from: Vec<(i32, Position)> = behind.filter_map(start).collect();
    let Some(first) = places.first().filter(|_| !from.is_empty()) else {
        return Ok(BTreeMap::new());
    };
    let settled = places
        .iter()
        .map(|place| (place.partition, place.settled()));
    let settled: BTreeMap<i32, SettledMap> = settled.collect();
    let is_unsettled = |partition, offset| {
        let map = settled.get(&partition);
        !map.is_some_and(|map| map.contains(offset))
    };
    Ok(operator.first_records(&first.topic, &from, is_unsettled)?)
}

fn row(place: &Place, oldest: &Oldest, now: SystemTime) -> Vec<Cell> {
    let mut row = vec![
        Cell::text(&place.topic),
        Cell::Number(place.partition.into()),
        place.of_this_log(),
        Cell::known(place.lag(), Cell::count),
    ];
    row.extend(match oldest {
        Oldest::Nothing => [Cell::Nothing, Cell::Nothing, Cell::Nothing],
        Oldest::Unknown => [Cell::Unknown, Cell::Unknown, Cell::Unknown],
        Oldest::Record(head) => {
            let date =
                |it: SystemTime| Cell::text(humantime::format_rfc3339_millis(it).to_string());
            // A record from the future, by the clock of its producer, is new.
            let age = |it| Cell::Age(now.duration_since(it).unwrap_or_default());
            [
                Cell::Number(head.offset.get()),
                Cell::known(head.timestamp, date),
                Cell::known(head.timestamp, age),
            ]
        }
    });
    row
}
