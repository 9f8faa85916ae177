//! `keylane offsets show`.

use keylane::operator::CommittedOffset;
use keylane_core::{LeaderEpoch, commit_map};

use super::super::Report;
use super::super::map::{content, settled_records};
use super::super::places::{Place, places};
use crate::arguments::GroupArguments;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::output::{Cell, Table};

const COLUMNS: &[&str] = &[
    "topic",
    "partition",
    "committed",
    "of_this_log",
    "commit_leader_epoch",
    "first",
    "end",
    "settled_ahead",
    "content",
];

pub(crate) fn run(connection: &Connection, group: &GroupArguments) -> Result<Report, Failure> {
    let operator = connection.operator(&group.group)?;
    let found = places(&operator, group)?;
    let mut table = Table::new(COLUMNS);
    found.places.iter().for_each(|place| table.push(row(place)));
    Ok(Report {
        missing: found.missing,
        ..table.into()
    })
}

fn row(place: &Place) -> Vec<Cell> {
    let range = place.range;
    let mut row = vec![
        Cell::text(&place.topic),
        Cell::Number(place.partition.into()),
    ];
    let epoch = |epoch: LeaderEpoch| Cell::Number(epoch.get().into());
    let range = [
        Cell::known(range, |range| Cell::Number(range.first.get())),
        Cell::known(range, |range| Cell::Number(range.end.get())),
    ];
    match &place.committed {
        Some(committed) => {
            row.push(Cell::Number(committed.position.get()));
            row.push(place.of_this_log());
            row.push(committed.leader_epoch.map_or(Cell::Nothing, epoch));
            row.extend(range);
            row.push(Cell::count(settled_records(&place.settled())));
            row.push(kind(committed));
        }
        None => {
            row.extend([Cell::Nothing, Cell::Nothing, Cell::Nothing]);
            row.extend(range);
            row.extend([Cell::Nothing, Cell::Nothing]);
        }
    }
    row
}

/// The one word of a commit's content.
fn kind(committed: &CommittedOffset) -> Cell {
    let decoded = commit_map::decode(committed.position, &committed.metadata);
    match content(&decoded, committed.metadata.is_empty()) {
        Cell::Said { value, .. } => Cell::text(value.as_str().unwrap_or_default()),
        cell => cell,
    }
}
