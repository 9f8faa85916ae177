//! `keylane lag`: how far a group is behind.

use keylane_core::Position;

use super::Report;
use super::map::settled_records;
use super::places::{Place, places};
use crate::arguments::GroupArguments;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::members::{Figures, HotKey, Members};
use crate::output::{Cell, Table};

const COLUMNS: &[&str] = &[
    "topic",
    "partition",
    "committed",
    "of_this_log",
    "end",
    "lag",
    "settled_ahead",
    "running",
    "parked",
    "not_due",
    "workable_lag_seconds",
    "hot_key",
    "hot_key_share",
];

pub(crate) fn run(
    connection: &Connection,
    group: &GroupArguments,
    admin: &[String],
) -> Result<Report, Failure> {
    // First, so that a wrong address is found at once.
    let members = Members::ask(admin, &group.group, connection.patience())?;
    let operator = connection.operator(&group.group)?;
    let mut found = places(&operator, group)?;
    let mut table = Table::new(COLUMNS);
    for place in &found.places {
        table.push(row(place, members.of(&place.topic, place.partition)));
    }
    found.missing.extend(members.missing);
    Ok(Report {
        missing: found.missing,
        ..table.into()
    })
}

fn row(place: &Place, figures: Option<&Figures>) -> Vec<Cell> {
    let position = |position: Position| Cell::Number(position.get());
    let figure = |figure: fn(&Figures) -> u64| Cell::known(figures.map(figure), Cell::count);
    let (hot_key, share) = hot_key(figures);
    vec![
        Cell::text(&place.topic),
        Cell::Number(place.partition.into()),
        place.committed_position().map_or(Cell::Nothing, position),
        place.of_this_log(),
        Cell::known(place.range, |range| position(range.end)),
        Cell::known(place.lag(), Cell::count),
        match place.committed {
            Some(_) => Cell::count(settled_records(&place.settled())),
            None => Cell::Nothing,
        },
        figure(|it| it.running),
        figure(|it| it.parked),
        figure(|it| it.not_due),
        Cell::known(figures.and_then(|it| it.workable_lag), Cell::Age),
        hot_key,
        share,
    ]
}

fn hot_key(figures: Option<&Figures>) -> (Cell, Cell) {
    match figures.and_then(|it| it.hot_key.as_ref()) {
        None => (Cell::Unknown, Cell::Unknown),
        Some(None) => (Cell::Nothing, Cell::Nothing),
        Some(Some(HotKey { hash, share })) => {
            let percent = format!("{:.0} %", share * 100.0);
            (Cell::text(hash), Cell::said(percent, *share))
        }
    }
}
