//! `keylane dlq ls`: a list of dead letters.

use std::collections::BTreeMap;
use std::time::SystemTime;

use keylane::dead_letter::StoredLetter;

use super::super::Report;
use super::filter::filter;
use super::read::read;
use super::{cells, ops};
use crate::Progress;
use crate::arguments::LsArguments;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::output::{Cell, Table};

const COLUMNS: &[&str] = &[
    "place",
    "given_up",
    "age_seconds",
    "group",
    "reason",
    "class",
    "error",
    "key",
    "attempts",
    "redrives",
];

pub(super) fn run(
    connection: &Connection,
    arguments: &LsArguments,
    progress: Progress,
) -> Result<Report, Failure> {
    let now = SystemTime::now();
    let filter = filter(&arguments.letters.filter, now)?;
    let mut list = List::new(arguments.limit.into(), arguments.oldest_first);
    let mut matching = 0;
    let topic = &arguments.letters.topic;
    let (handled, mut missing) = ops::left_out(connection, topic, &arguments.open)?;
    let reading = read(connection, topic, None, progress, |letter| {
        let is_open = !handled.contains(letter.partition(), letter.offset());
        if is_open && filter.matches(&letter) {
            matching += 1;
            list.offer(&letter, now);
        }
    })?;
    let mut notes = vec![reading.note(matching)];
    let shown = list.rows.len() as u64;
    if matching > shown {
        let which = match arguments.oldest_first {
            true => "first",
            false => "last",
        };
        let left = matching - shown;
        notes.push(format!(
            "note: the {which} {shown} are shown, {left} are not (see --limit)"
        ));
    }
    missing.extend(reading.cut_short);
    Ok(Report {
        notes,
        missing,
        ..list.table().into()
    })
}

/// The first or the last letters: only what is shown is kept.
struct List {
    limit: usize,
    oldest_first: bool,
    /// By when they were given up, then by their place.
    rows: BTreeMap<(Option<SystemTime>, i32, i64), Vec<Cell>>,
}

impl List {
    fn new(limit: usize, oldest_first: bool) -> Self {
        Self {
            limit,
            oldest_first,
            rows: BTreeMap::new(),
        }
    }

    fn offer(&mut self, letter: &StoredLetter, now: SystemTime) {
        let key = (letter.given_up_at(), letter.partition(), letter.offset());
        if self.rows.len() >= self.limit {
            let is_wanted = match self.oldest_first {
                true => self
                    .rows
                    .last_key_value()
                    .is_some_and(|(last, _)| key < *last),
                false => self
                    .rows
                    .first_key_value()
                    .is_some_and(|(first, _)| key > *first),
            };
            if !is_wanted {
                return;
            }
            match self.oldest_first {
                true => self.rows.pop_last(),
                false => self.rows.pop_first(),
            };
        }
        self.rows.insert(key, row(letter, now));
    }

    fn table(self) -> Table {
        let mut table = Table::new(COLUMNS);
        let rows = self.rows.into_values();
        match self.oldest_first {
            true => rows.for_each(|row| table.push(row)),
            false => rows.rev().for_each(|row| table.push(row)),
        }
        table
    }
}

fn row(stored: &StoredLetter, now: SystemTime) -> Vec<Cell> {
    let letter = stored.letter();
    let given_up = stored.given_up_at();
    vec![
        Cell::text(cells::place_of(stored)),
        cells::time(given_up),
        cells::age(given_up, now),
        cells::text(letter.group.as_deref()),
        cells::text(letter.reason.as_deref()),
        cells::text(letter.error_class.as_deref()),
        cells::cut_text(letter.error.as_deref()),
        cells::cut_bytes(stored.key()),
        cells::count(letter.attempts),
        cells::redrives(letter),
    ]
}
