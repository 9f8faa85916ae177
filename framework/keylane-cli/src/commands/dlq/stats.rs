//! `keylane dlq stats`: how many dead letters fail alike.

use std::time::SystemTime;

use super::super::Report;
use super::filter::filter;
use super::histogram::Histogram;
use super::read::read;
use crate::Progress;
use crate::arguments::{By, LettersArguments};
use crate::connection::Connection;
use crate::failure::Failure;

pub(super) fn run(
    connection: &Connection,
    arguments: &LettersArguments,
    by: By,
    progress: Progress,
) -> Result<Report, Failure> {
    let filter = filter(&arguments.filter, SystemTime::now())?;
    let mut histogram = Histogram::new(by);
    let reading = read(connection, &arguments.topic, None, progress, |letter| {
        if filter.matches(&letter) {
            histogram.count(&letter);
        }
    })?;
    let mut notes = vec![reading.note(histogram.total())];
    if histogram.is_cut() {
        let text = "there are more groups than are counted: the last line has all others";
        notes.push(format!("note: {text}; use --filter to see them"));
    }
    Ok(Report {
        notes,
        missing: Vec::from_iter(reading.cut_short),
        ..histogram.table(&arguments.topic).into()
    })
}
