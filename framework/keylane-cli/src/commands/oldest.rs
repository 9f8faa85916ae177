//! `keylane oldest`: the record that each commit waits for.

use std::collections::BTreeMap;
use std::time::SystemTime;

use keylane::operator::{Operator, RecordHead};
use keylane::record::KeyHash;
use keylane_core::{Position, SettledMap};

use super::Report;
use super::dlq::cells::{cut_bytes, cut_text};
use super::places::{Place, places};
use crate::arguments::GroupArguments;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::members::{Figures, Members};
use crate::output::{Cell, Table};

const COLUMNS: &[&str] = &[
    "topic",
    "partition",
    "of_this_log",
    "lag",
    "offset",
    "timestamp",
    "age_seconds",
    "key",
    "key_hash",
    "state",
    "attempts",
    "last_error",
];

/// What is known about a partition's oldest unsettled record.
enum Oldest {
    Record(RecordHead),
    /// All is settled, or what is left are no records, such as markers of transactions.
    Nothing,
    Unknown,
}

pub(crate) fn run(
    connection: &Connection,
    group: &GroupArguments,
    admin: &[String],
) -> Result<Report, Failure> {
    // First, so that a wrong address is found at once. What a member has settled since is not
    // committed yet, and is told from the rest by its oldest record.
    let members = Members::ask(admin, &group.group, connection.patience())?;
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
    for (place, oldest) in &rows {
        let figures = members.of(&place.topic, place.partition);
        table.push(row(place, oldest, figures, now));
    }
    found.missing.extend(members.missing);
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

fn row(place: &Place, oldest: &Oldest, figures: Option<&Figures>, now: SystemTime) -> Vec<Cell> {
    let mut row = vec![
        Cell::text(&place.topic),
        Cell::Number(place.partition.into()),
        place.of_this_log(),
        Cell::known(place.lag(), Cell::count),
    ];
    let Oldest::Record(head) = oldest else {
        let cell = match oldest {
            Oldest::Unknown => Cell::Unknown,
            _ => Cell::Nothing,
        };
        row.resize(COLUMNS.len(), cell);
        return row;
    };
    let date = |it: SystemTime| Cell::text(humantime::format_rfc3339_millis(it).to_string());
    // A record from the future, by the clock of its producer, is new.
    let age = |it| Cell::Age(now.duration_since(it).unwrap_or_default());
    let hash = head.key.as_deref().map(KeyHash::of);
    row.extend([
        Cell::Number(head.offset.get()),
        Cell::known(head.timestamp, date),
        Cell::known(head.timestamp, age),
        cut_bytes(head.key.as_deref()),
        hash.map_or(Cell::Nothing, |hash| Cell::text(hash.to_string())),
    ]);
    row.extend(doing(head.offset.get(), figures));
    row
}

/// What the member does about a record: state, attempts, last error.
fn doing(offset: i64, figures: Option<&Figures>) -> [Cell; 3] {
    let unknown = [Cell::Unknown, Cell::Unknown, Cell::Unknown];
    let Some(figures) = figures else {
        return unknown;
    };
    match &figures.oldest {
        Some(oldest) if oldest.offset == offset => [
            Cell::text(&oldest.state),
            Cell::count(oldest.attempts.into()),
            cut_text(oldest.last_error.as_deref()),
        ],
        // The next commit says so.
        _ if figures.watermark > Some(offset) => {
            [Cell::text("settled"), Cell::Nothing, Cell::Nothing]
        }
        _ => unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::members::OldestRecord;

    #[test]
    fn what_a_member_does_is_told_of_the_record_that_it_names_and_of_no_other() {
        let oldest = |offset| OldestRecord {
            offset,
            attempts: 3,
            state: "waiting".to_owned(),
            last_error: Some("503".to_owned()),
        };
        let figures = |watermark, oldest| Figures {
            running: 0,
            parked: 0,
            not_due: 0,
            workable_lag: None,
            watermark,
            oldest,
            hot_key: None,
        };
        let state = |figures: Option<Figures>| doing(7, figures.as_ref())[0].clone();
        let waiting = figures(Some(7), Some(oldest(7)));
        assert_eq!(state(Some(waiting)), Cell::text("waiting"));
        for later in [Some(oldest(8)), None] {
            let settled = figures(Some(8), later);
            assert_eq!(state(Some(settled)), Cell::text("settled"));
        }
        for unknown in [
            Some(figures(Some(6), Some(oldest(6)))),
            // It was not delivered yet.
            Some(figures(Some(7), None)),
            Some(figures(None, None)),
            None,
        ] {
            assert_eq!(state(unknown), Cell::Unknown);
        }
    }
}
