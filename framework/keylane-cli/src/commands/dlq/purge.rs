//! `keylane dlq purge`: deletes what is done with.
//!
//! What is counted before is what is deleted: the end of what is read is the offset up to which the
//! brokers delete. A letter that lies behind it stays.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use keylane::dead_letter::StoredLetter;
use keylane::operator::{Deletion, Operator};
use keylane::redrive::LetterRange;
use keylane::redrive::ops::Handled;
use keylane_core::{LogRange, Position};

use super::super::Report;
use super::super::confirm::confirm;
use super::super::moment::{A_MOMENT, moment};
use super::ops;
use super::read::read;
use crate::arguments::PurgeArguments;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::output::{Cell, Table};
use crate::{Progress, Surroundings};

const COLUMNS: &[&str] = &[
    "topic",
    "partition",
    "first",
    "before",
    "letters",
    "open",
    "state",
];

/// Up to where each partition is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Offset(i64),
    /// Milliseconds since 1970.
    Time(i64),
    /// The first letter that is open.
    Open,
}

/// One partition's part: what lies before `before`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    partition: i32,
    first: i64,
    before: i64,
    letters: u64,
    /// Those that are neither written back nor resolved.
    open: u64,
}

/// What is to be deleted.
struct Purge {
    parts: Vec<Part>,
    /// Records that are no dead letters, over all partitions.
    no_letters: u64,
}

pub(super) fn run(
    connection: &Connection,
    arguments: &PurgeArguments,
    surroundings: &mut Surroundings<'_>,
) -> Result<Report, Failure> {
    let before = match &arguments.before {
        Some(before) => Before::of(before, SystemTime::now())?,
        None => Before::Open,
    };
    let operator = connection.operator("keylane-dead-letters")?;
    let mut ranges = ranges(&operator, arguments, before)?;
    let (handled, unread) = ops::handled(connection, &arguments.topic)?;
    let reader = Reader {
        connection,
        topic: &arguments.topic,
        handled,
        progress: surroundings.progress,
    };
    if before == Before::Open {
        ranges = reader.up_to_open(ranges)?;
    }
    let purge = reader.count(ranges)?;
    let refusal = purge.refusal(arguments);
    // What could not be read of it counts as open.
    let mut notes = Vec::from_iter(unread.iter().map(|text| format!("note: {text}")));
    if arguments.sure.dry_run {
        notes.extend(refusal.map(|text| format!("note: it would be refused: {text}")));
        notes.push("note: nothing was deleted".to_owned());
        return Ok(purge.report(arguments, notes, |_| Cell::text("planned")));
    }
    if let Some(reason) = refusal {
        return Err(Failure::Refused(format!("nothing was deleted: {reason}")));
    }
    if purge.parts.iter().all(Part::is_empty) {
        notes.push("note: there is nothing to delete".to_owned());
        return Ok(purge.report(arguments, notes, |_| Cell::Unknown));
    }
    if !arguments.sure.yes {
        confirm(&mut surroundings.ask, &purge.question(&arguments.topic))?;
    }
    delete(&operator, arguments, &purge, notes)
}

fn delete(
    operator: &Operator,
    arguments: &PurgeArguments,
    purge: &Purge,
    notes: Vec<String>,
) -> Result<Report, Failure> {
    let topic = &arguments.topic;
    let before = purge.parts.iter().filter(|part| !part.is_empty());
    let before = before.map(|part| (part.partition, Position::new(part.before)));
    let before: Vec<(i32, Position)> = before.collect();
    let deletions: BTreeMap<i32, Deletion> = operator.delete_records(topic, &before)?;
    let missing = deletions.iter().filter_map(|(partition, it)| match it {
        Deletion::Done => None,
        Deletion::Refused(reason) => Some(format!("{topic}/{partition} was not deleted: {reason}")),
        Deletion::Unknown(reason) => Some(format!(
            "{topic}/{partition}: state unknown, it may have been deleted: {reason}"
        )),
    });
    let missing: Vec<String> = missing.collect();
    let is_refused = |it: &Deletion| matches!(it, Deletion::Refused(_));
    if deletions.values().all(is_refused) {
        return Err(Failure::Refused(missing.join("; ")));
    }
    let state = |part: &Part| match deletions.get(&part.partition) {
        Some(Deletion::Done) => Cell::text("deleted"),
        Some(Deletion::Refused(_)) => Cell::text("refused"),
        Some(Deletion::Unknown(_)) | None => Cell::Unknown,
    };
    Ok(Report {
        missing,
        ..purge.report(arguments, notes, state)
    })
}

impl Before {
    fn of(text: &str, now: SystemTime) -> Result<Self, Failure> {
        if let Ok(offset) = text.parse() {
            return Ok(Self::Offset(offset));
        }
        let since = moment(text, now).and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let millis = since.and_then(|it| i64::try_from(it.as_millis()).ok());
        millis
            .map(Self::Time)
            .ok_or_else(|| Failure::Usage(format!("--before: give an offset, {A_MOMENT}")))
    }
}

/// What is deleted of each partition. All partitions or none: one that cannot be read is refused.
fn ranges(
    operator: &Operator,
    arguments: &PurgeArguments,
    before: Before,
) -> Result<Vec<LetterRange>, Failure> {
    let topic = &arguments.topic;
    let known = operator.topic(topic)?;
    let there: Vec<i32> = known.partitions.iter().map(|(it, _)| *it).collect();
    let named = &arguments.partitions;
    if let Some(unknown) = named.iter().find(|it| !there.contains(it)) {
        return Err(Failure::Refused(format!(
            "topic {topic} has no partition {unknown}"
        )));
    }
    let is_named = |it: &i32| named.is_empty() || named.contains(it);
    let chosen: Vec<i32> = there.into_iter().filter(is_named).collect();
    if matches!(before, Before::Offset(_)) && chosen.len() > 1 {
        let text = format!(
            "an offset is of one partition, and {topic} has {}: name it by --partition, or give a time",
            chosen.len()
        );
        return Err(Failure::Usage(text));
    }
    let found = match before {
        Before::Time(millis) => operator.offsets_at(topic, &chosen, millis)?,
        Before::Offset(_) | Before::Open => vec![None; chosen.len()],
    };
    let ranges = chosen.into_iter().zip(found).map(|(partition, found)| {
        let range = operator.range(topic, partition)?;
        let end = before
            .position(range, found)
            .map_err(|reason| Failure::Refused(format!("{topic}/{partition}: {reason}")))?;
        Ok(LetterRange::new(partition, range.first.get(), end.get()))
    });
    ranges.collect()
}

impl Before {
    fn position(self, range: LogRange, found: Option<Position>) -> Result<Position, String> {
        let LogRange { first, end } = range;
        match self {
            Self::Open => Ok(end),
            // Where no record is as late, all are before.
            Self::Time(_) => Ok(found.unwrap_or(end).clamp(first, end)),
            Self::Offset(offset) if (0..=end.get()).contains(&offset) => {
                Ok(Position::new(offset).max(first))
            }
            Self::Offset(offset) => Err(format!(
                "{offset} is not in the log, which has {first} to {end}"
            )),
        }
    }
}

/// Reads what is to be deleted. What cannot be read to its end is refused.
struct Reader<'a> {
    connection: &'a Connection,
    topic: &'a str,
    handled: Handled,
    progress: Progress,
}

impl Reader<'_> {
    /// The ranges up to the first letter in each that is open.
    fn up_to_open(&self, mut ranges: Vec<LetterRange>) -> Result<Vec<LetterRange>, Failure> {
        let mut first_open = BTreeMap::new();
        self.read(ranges.clone(), |letter, is_open| {
            if is_open {
                let first = first_open.entry(letter.partition()).or_insert(i64::MAX);
                *first = letter.offset().min(*first);
            }
        })?;
        for range in &mut ranges {
            let open = first_open.get(&range.partition);
            range.end = open.map_or(range.end, |open| range.end.min(*open));
        }
        Ok(ranges)
    }

    fn count(&self, ranges: Vec<LetterRange>) -> Result<Purge, Failure> {
        let part = |range: &LetterRange| Part {
            partition: range.partition,
            first: range.first,
            before: range.end,
            letters: 0,
            open: 0,
        };
        let mut parts: Vec<Part> = ranges.iter().map(part).collect();
        let no_letters = self.read(ranges, |letter, is_open| {
            let mut parts = parts.iter_mut();
            if let Some(part) = parts.find(|it| it.partition == letter.partition()) {
                part.letters += 1;
                part.open += u64::from(is_open);
            }
        })?;
        Ok(Purge { parts, no_letters })
    }

    /// How many records are no letters.
    fn read(
        &self,
        ranges: Vec<LetterRange>,
        mut take: impl FnMut(StoredLetter, bool) + Send,
    ) -> Result<u64, Failure> {
        let handled = &self.handled;
        let reading = read(
            self.connection,
            self.topic,
            Some(ranges),
            self.progress,
            |it| {
                let is_open = !handled.contains(it.partition(), it.offset());
                take(it, is_open);
            },
        )?;
        match reading.cut_short {
            None => Ok(reading.others),
            Some(reason) => Err(Failure::Refused(format!("nothing was deleted: {reason}"))),
        }
    }
}

impl Part {
    fn is_empty(&self) -> bool {
        self.first >= self.before
    }
}

impl Purge {
    fn total(&self, figure: fn(&Part) -> u64) -> u64 {
        self.parts.iter().map(figure).sum()
    }

    fn question(&self, topic: &str) -> String {
        format!(
            "Delete {} dead letters of {topic} for good, of which {} are neither written back nor resolved, and {} \
             other records. Go on?",
            self.total(|part| part.letters),
            self.total(|part| part.open),
            self.no_letters,
        )
    }

    /// Why it is not done, unless that was said.
    fn refusal(&self, arguments: &PurgeArguments) -> Option<String> {
        let open = self.total(|part| part.open);
        if arguments.open_too || (open == 0 && self.no_letters == 0) {
            return None;
        }
        let mut what = vec![];
        if open > 0 {
            what.push(format!(
                "{open} dead letters that are neither written back nor resolved"
            ));
        }
        if self.no_letters > 0 {
            what.push(format!(
                "{} records that are no dead letters",
                self.no_letters
            ));
        }
        Some(format!(
            "{} would be deleted: look at them with `keylane dlq ls`, and give --open-too where that is meant",
            what.join(" and ")
        ))
    }

    fn report(
        &self,
        arguments: &PurgeArguments,
        notes: Vec<String>,
        state: impl Fn(&Part) -> Cell,
    ) -> Report {
        let mut table = Table::new(COLUMNS);
        for part in &self.parts {
            let state = match part.is_empty() {
                true => Cell::text("unchanged"),
                false => state(part),
            };
            table.push(vec![
                Cell::text(&arguments.topic),
                Cell::Number(part.partition.into()),
                Cell::Number(part.first),
                Cell::Number(part.before),
                Cell::count(part.letters),
                Cell::count(part.open),
                state,
            ]);
        }
        Report {
            notes,
            ..table.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_offset_is_a_number_and_a_time_is_anything_else() {
        let now = UNIX_EPOCH + Duration::from_secs(10_000);
        let before = |text| Before::of(text, now).ok();
        assert_eq!(before("42"), Some(Before::Offset(42)));
        assert_eq!(before("90m"), Some(Before::Time((10_000 - 5_400) * 1_000)));
        assert_eq!(before("1970-01-01T00:01:00Z"), Some(Before::Time(60_000)));
        assert_eq!(before("soon"), None);
    }

    #[test]
    fn what_is_deleted_lies_in_the_log() {
        let range = LogRange {
            first: Position::new(10),
            end: Position::new(50),
        };
        let at = |before: Before, found: Option<i64>| {
            let position = before.position(range, found.map(Position::new));
            position.ok().map(Position::get)
        };
        assert_eq!(at(Before::Offset(5), None), Some(10), "it is gone already");
        assert_eq!(at(Before::Offset(50), None), Some(50));
        assert_eq!(at(Before::Offset(51), None), None);
        assert_eq!(at(Before::Offset(-1), None), None);
        assert_eq!(at(Before::Time(1), Some(20)), Some(20));
        assert_eq!(at(Before::Time(1), None), Some(50), "all are before");
    }
}
