//! `keylane dlq show`: one dead letter.

use std::time::SystemTime;

use keylane::dead_letter::StoredLetter;
use keylane::redrive::LetterRange;
use serde_json::{Value, json};

use super::super::Report;
use super::read::read;
use super::{cells, json_layout};
use crate::Progress;
use crate::arguments::Place;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::output::{Cell, Table};

const COLUMNS: &[&str] = &[
    "place",
    "written_by",
    "written",
    "given_up",
    "age_seconds",
    "group",
    "reason",
    "class",
    "error",
    "fingerprint",
    "attempts",
    "first_failure",
    "last_failure",
    "origin",
    "origin_timestamp",
    "retry_topic",
    "redrives",
    "redrive_id",
    "edited_from",
    "headers",
    "key",
    "value",
];
/// What is shown of a text at a terminal.
const MOST_TEXT_BYTES: usize = 64 * 1024;
/// What is shown of other bytes at a terminal: 16 lines.
const MOST_OTHER_BYTES: usize = 512;
const BYTES_A_LINE: usize = 32;

pub(super) fn run(connection: &Connection, place: &Place, raw: bool) -> Result<Report, Failure> {
    let stored = letter(connection, place)?;
    let mut report = Report::from(Table::of_one(COLUMNS, row(&stored, SystemTime::now())));
    if raw {
        let value = stored.record().value();
        let value = value.ok_or_else(|| {
            Failure::Refused(format!("the value at {} is null", cells::place_of(&stored)))
        })?;
        report.raw = Some(value.to_vec());
    }
    Ok(report)
}

pub(super) fn letter(connection: &Connection, place: &Place) -> Result<StoredLetter, Failure> {
    let (topic, partition) = (&place.partition.topic, place.partition.partition);
    let operator = connection.operator("keylane-dead-letters")?;
    let named = cells::place(topic, partition, place.offset);
    let known = operator.topic(topic)?;
    if !known.partitions.iter().any(|(it, _)| *it == partition) {
        let count = known.partitions.len();
        let text = format!("{topic} has {count} partitions, counted from 0");
        return Err(Failure::Refused(text));
    }
    // A reader that begins behind the end would wait there.
    let range = operator.range(topic, partition)?;
    let (first, end) = (range.first.get(), range.end.get());
    if !(first..end).contains(&place.offset) {
        let text = format!("there is no record at {named}: the log has {first} to before {end}");
        return Err(Failure::Refused(text));
    }
    let one = LetterRange::new(partition, place.offset, place.offset + 1);
    let mut found = None;
    let reading = read(connection, topic, Some(vec![one]), Progress::Hidden, |it| {
        found = Some(it);
    })?;
    let reason = || match (reading.cut_short, reading.others) {
        (Some(reason), _) => reason,
        (None, 0) => format!("there is no record at {named}: it was deleted, or never readable"),
        (None, _) => format!("the record at {named} has no dead letter's headers"),
    };
    found.ok_or_else(|| Failure::Refused(reason()))
}

fn row(stored: &StoredLetter, now: SystemTime) -> Vec<Cell> {
    let letter = stored.letter();
    let given_up = stored.given_up_at();
    let fingerprint = stored.fingerprint();
    let (id, text) = (fingerprint.id(), fingerprint.text());
    let fingerprint = Cell::said(format!("{id} {text}"), json!({"id": id, "text": text}));
    vec![
        Cell::text(cells::place_of(stored)),
        cells::written_by(letter),
        cells::time(stored.record().timestamp()),
        cells::time(given_up),
        cells::age(given_up, now),
        cells::text(letter.group.as_deref()),
        cells::text(letter.reason.as_deref()),
        cells::text(letter.error_class.as_deref()),
        cells::text(letter.error.as_deref()),
        fingerprint,
        cells::count(letter.attempts),
        cells::time(letter.first_failure),
        cells::time(letter.last_failure),
        cells::origin(letter.origin.as_ref()),
        cells::time(letter.origin_timestamp),
        cells::text(letter.retry_topic.as_deref()),
        cells::redrives(letter),
        cells::text(letter.redrive_id.as_deref()),
        cells::text(letter.edited_from.as_deref()),
        headers(stored),
        content(stored.key()),
        content(stored.record().value()),
    ]
}

fn headers(stored: &StoredLetter) -> Cell {
    let headers = stored.headers().iter();
    let (lines, values): (Vec<String>, Vec<Value>) = headers
        .map(|(name, value)| match value {
            None => (
                format!("{name}: null"),
                json!({"name": name, "value": null}),
            ),
            Some(value) => {
                let shown = lines(value).join(" ");
                let value = json!({"name": name, "value": cells::whole(value)});
                (format!("{name}: {shown}"), value)
            }
        })
        .unzip();
    Cell::Lines {
        lines,
        value: values.into(),
    }
}

/// Key or value, whole for programs.
fn content(bytes: Option<&[u8]>) -> Cell {
    cells::optional(bytes, |bytes| Cell::Lines {
        lines: lines(bytes),
        value: cells::whole(bytes),
    })
}

/// For people: an object or an array of JSON in lines of its own, other text as it is, other bytes
/// as hexadecimal digits. All are cut.
fn lines(bytes: &[u8]) -> Vec<String> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return hexadecimal(bytes);
    };
    let text = match bytes.len() <= MOST_TEXT_BYTES {
        true => json_layout::laid_out(text),
        false => None,
    }
    .unwrap_or_else(|| cells::in_words(text));
    let mut end = text.len().min(MOST_TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut lines: Vec<String> = text[..end].lines().map(str::to_owned).collect();
    if end < text.len() {
        lines.push(rest(bytes));
    }
    lines
}

fn hexadecimal(bytes: &[u8]) -> Vec<String> {
    let shown = &bytes[..bytes.len().min(MOST_OTHER_BYTES)];
    let mut lines: Vec<String> = shown.chunks(BYTES_A_LINE).map(cells::hex).collect();
    if shown.len() < bytes.len() {
        lines.push(rest(bytes));
    }
    lines
}

fn rest(bytes: &[u8]) -> String {
    format!("… {} bytes in all; --raw writes the value", bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_laid_out_and_other_text_stays_as_it_is() {
        assert_eq!(lines(br#"{"a":1}"#), ["{", "  \"a\": 1", "}"]);
        assert_eq!(lines(b"17"), ["17"]);
        assert_eq!(lines(b"a\nb"), ["a", "b"]);
        assert_eq!(lines(b""), ["(empty)"]);
    }

    #[test]
    fn what_is_no_text_has_hexadecimal_digits() {
        assert_eq!(lines(&[0xff, 0, 1]), ["0xff0001"]);
    }

    #[test]
    fn what_is_long_is_cut() {
        let text = "é".repeat(MOST_TEXT_BYTES);
        let shown = lines(text.as_bytes());
        assert_eq!(shown.len(), 2);
        assert!(shown[0].len() <= MOST_TEXT_BYTES);
        assert!(shown[1].contains(&text.len().to_string()), "{}", shown[1]);
        assert_eq!(lines(&[0xff; 100_000]).len(), 16 + 1);
    }
}
