//! `keylane dlq stats`: how many dead letters fail alike.

use std::time::SystemTime;

use super::super::Report;
use super::filter::filter;
use super::histogram::Histogram;
use super::ops;
use super::read::read;
use crate::Progress;
use crate::arguments::{By, LettersArguments, OpenArgument};
use crate::connection::Connection;
use crate::failure::Failure;

pub(super) fn run(
    connection: &Connection,
    arguments: &LettersArguments,
    by: By,
    open: &OpenArgument,
    progress: Progress,
) -> Result<Report, Failure> {
    let filter = filter(&arguments.filter, SystemTime::now())?;
    let topic = &arguments.topic;
    let (handled, mut missing) = ops::left_out(connection, topic, open)?;
    let mut histogram = Histogram::new(by);
    let reading = read(connection, topic, None, progress, |letter| {
        let is_open = !handled.contains(letter.partition(), letter.offset());
        if is_open && filter.matches(&letter) {
            histogram.count(&letter);
        }
    })?;
    let mut notes = vec![reading.note(histogram.total())];
    if histogram.is_cut() {
        let text = "there are more groups than are counted: the last line has all others";
        notes.push(format!("note: {text}; use --filter to see them"));
    }
    missing.extend(reading.cut_short);
    Ok(Report {
        notes,
        missing,
        ..histogram.table(&arguments.topic).into()
    })
}
