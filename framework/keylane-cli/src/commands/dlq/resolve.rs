//! `keylane dlq resolve` and `keylane dlq cancel`: what is written to the operations topic by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::SystemTime;

use keylane::dead_letter::StoredLetter;

use super::super::Report;
use super::super::confirm::confirm;
use super::filter::filter;
use super::read::{block_on, read};
use super::{ops, show};
use crate::arguments::{CancelArguments, Place, ResolveArguments};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::output::{Cell, Table};
use crate::{Progress, Surroundings};

const COLUMNS: &[&str] = &["topic", "partition", "first", "last", "group", "state"];
/// Each is a record of the operations topic.
const MOST_RANGES: usize = 10_000;
/// Each is read by itself.
const MOST_PLACES: usize = 100;
/// More groups are not listed.
const MOST_GROUPS: usize = 20;
const MOST_WHY_CHARACTERS: usize = 1_000;

/// The letters that are meant, of one dead-letter topic.
#[derive(Default)]
struct Meant {
    /// Offsets by partition.
    offsets: BTreeMap<i32, BTreeSet<i64>>,
    groups: BTreeSet<Option<String>>,
    count: u64,
}

impl Meant {
    fn push(&mut self, letter: &StoredLetter) {
        let offsets = self.offsets.entry(letter.partition()).or_default();
        if offsets.insert(letter.offset()) {
            self.count += 1;
        }
        if self.groups.len() <= MOST_GROUPS {
            self.groups.insert(letter.letter().group.clone());
        }
    }

    /// The one group that all of them name.
    fn group(&self) -> Result<String, Failure> {
        let named: Vec<&str> = self.groups.iter().flatten().map(String::as_str).collect();
        match (named[..].first(), self.groups.len()) {
            (Some(group), 1) => Ok((*group).to_owned()),
            (None, _) => Err(Failure::Refused(
                "the letters name no consumer group: name it by --group".to_owned(),
            )),
            (Some(_), _) => Err(Failure::Refused(format!(
                "the letters are of several groups ({}), or some name none: choose one by --filter group=…, or name \
                 it by --group",
                named.join(", ")
            ))),
        }
    }

    fn ranges(&self) -> Vec<(i32, RangeInclusive<i64>)> {
        let mut ranges: Vec<(i32, RangeInclusive<i64>)> = Vec::new();
        for (partition, offsets) in &self.offsets {
            for offset in offsets {
                match ranges.last_mut() {
                    Some((of, range)) if of == partition && range.end() + 1 == *offset => {
                        *range = *range.start()..=*offset;
                    }
                    _ => ranges.push((*partition, *offset..=*offset)),
                }
            }
        }
        ranges
    }
}

pub(super) fn run(
    connection: &Connection,
    arguments: &ResolveArguments,
    surroundings: &mut Surroundings<'_>,
) -> Result<Report, Failure> {
    let who = ops::who(&arguments.by, &surroundings.environment)?;
    check_why(&arguments.why)?;
    let (topic, meant) = match places(&arguments.letters)? {
        Named::Places(topic, places) => {
            let meant = by_place(connection, &places)?;
            (topic, meant)
        }
        Named::Topic(topic) => {
            let meant = by_filter(connection, &topic, arguments, surroundings.progress)?;
            (topic, meant)
        }
    };
    let ranges = meant.ranges();
    if ranges.len() > MOST_RANGES {
        let text = format!(
            "nothing was changed: {} ranges of offsets match, and {MOST_RANGES} are resolved at once: use --filter",
            ranges.len()
        );
        return Err(Failure::Refused(text));
    }
    let notes = |text: &str| vec![format!("note: {text}")];
    if ranges.is_empty() {
        let report = Report::from(Table::new(COLUMNS));
        return Ok(Report {
            notes: notes("no letter matches"),
            ..report
        });
    }
    let group = match &arguments.group {
        Some(group) => group.clone(),
        None => meant.group()?,
    };
    if arguments.sure.dry_run {
        return Ok(Report {
            notes: notes("nothing was changed"),
            ..table(&topic, &group, &ranges, "planned").into()
        });
    }
    // Single letters were named one by one, and can be taken back.
    if !arguments.sure.yes && !arguments.filter.is_empty() {
        let what = match arguments.undo {
            true => "Take back what was resolved of",
            false => "Resolve",
        };
        let question = format!(
            "{what} {} dead letters of {topic}, group {group}. Go on?",
            meant.count
        );
        confirm(&mut surroundings.ask, &question)?;
    }
    let of_group = connection.ops(&group);
    let state = match arguments.undo {
        true => {
            block_on(|| of_group.unresolve(&topic, ranges.clone(), &who, &arguments.why))??;
            "open"
        }
        false => {
            block_on(|| of_group.resolve(&topic, ranges.clone(), &who, &arguments.why))??;
            "resolved"
        }
    };
    Ok(table(&topic, &group, &ranges, state).into())
}

pub(super) fn cancel(
    connection: &Connection,
    arguments: &CancelArguments,
    surroundings: &Surroundings<'_>,
) -> Result<Report, Failure> {
    let who = ops::who(&arguments.by, &surroundings.environment)?;
    check_why(&arguments.why)?;
    let (group, task) = (&arguments.group, &arguments.task);
    let topic = connection.ops(group);
    block_on(|| topic.cancel(task, &who, &arguments.why))??;
    let row = [group.as_str(), task, "is to end"].map(Cell::text);
    let mut report = Report::from(Table::of_one(&["group", "task", "state"], row.into()));
    report.notes.push(
        "note: a redrive that runs ends after its transaction; one whose process has ended, when it is resumed \
         or another one begins"
            .to_owned(),
    );
    Ok(report)
}

fn check_why(why: &str) -> Result<(), Failure> {
    let count = why.trim().chars().count();
    match (1..=MOST_WHY_CHARACTERS).contains(&count) {
        true => Ok(()),
        false => Err(Failure::Usage(format!(
            "--why: give 1 to {MOST_WHY_CHARACTERS} characters"
        ))),
    }
}

/// How the letters were named.
#[derive(Debug, PartialEq, Eq)]
enum Named {
    Places(String, Vec<Place>),
    Topic(String),
}

fn places(letters: &[String]) -> Result<Named, Failure> {
    if let [topic] = letters
        && keylane_core::check_topic_name(topic).is_ok()
    {
        return Ok(Named::Topic(topic.clone()));
    }
    if letters.len() > MOST_PLACES {
        return Err(Failure::Usage(format!(
            "name {MOST_PLACES} letters at most, or use --filter"
        )));
    }
    let places = letters.iter().map(|it| it.parse().map_err(Failure::Usage));
    let places = places.collect::<Result<Vec<Place>, Failure>>()?;
    let topics: BTreeSet<&str> = places.iter().map(|it| &*it.partition.topic).collect();
    match Vec::from_iter(topics)[..] {
        [topic] => Ok(Named::Places(topic.to_owned(), places.clone())),
        _ => Err(Failure::Usage(
            "the letters are of several topics: name those of one".to_owned(),
        )),
    }
}

fn by_place(connection: &Connection, places: &[Place]) -> Result<Meant, Failure> {
    let mut meant = Meant::default();
    for place in places {
        meant.push(&show::letter(connection, place)?);
    }
    Ok(meant)
}

/// Those that match and are open, or with --undo those that are not.
fn by_filter(
    connection: &Connection,
    topic: &str,
    arguments: &ResolveArguments,
    progress: Progress,
) -> Result<Meant, Failure> {
    if arguments.filter.is_empty() {
        let text = "give --filter, or name letters as TOPIC/PARTITION@OFFSET; all of a topic are --filter offset=0..";
        return Err(Failure::Usage(text.to_owned()));
    }
    let filter = filter(&arguments.filter, SystemTime::now())?;
    let (handled, missing) = ops::handled(connection, topic)?;
    if !missing.is_empty() {
        return Err(Failure::Refused(format!(
            "nothing was changed: {}",
            missing.join("; ")
        )));
    }
    let mut meant = Meant::default();
    let reading = read(connection, topic, None, progress, |letter| {
        let is_handled = handled.contains(letter.partition(), letter.offset());
        if is_handled == arguments.undo && filter.matches(&letter) {
            meant.push(&letter);
        }
    })?;
    match reading.cut_short {
        None => Ok(meant),
        Some(reason) => Err(Failure::Refused(format!("nothing was changed: {reason}"))),
    }
}

fn table(topic: &str, group: &str, ranges: &[(i32, RangeInclusive<i64>)], state: &str) -> Table {
    let mut table = Table::new(COLUMNS);
    for (partition, range) in ranges {
        table.push(vec![
            Cell::text(topic),
            Cell::Number((*partition).into()),
            Cell::Number(*range.start()),
            Cell::Number(*range.end()),
            Cell::text(group),
            Cell::text(state),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_named_by_place_or_by_topic() {
        let named = |letters: &[&str]| {
            let letters: Vec<String> = letters.iter().map(|it| (*it).to_owned()).collect();
            places(&letters)
        };
        assert_eq!(named(&["a-dlq"]).unwrap(), Named::Topic("a-dlq".to_owned()));
        let Named::Places(topic, places) = named(&["a-dlq/0@1", "a-dlq/1@2"]).unwrap() else {
            panic!("they are places");
        };
        assert_eq!((topic.as_str(), places.len()), ("a-dlq", 2));
        for wrong in [
            &["a-dlq", "b-dlq"][..],
            &["a-dlq/0@1", "b-dlq/0@1"],
            &["a/0"],
            &["a b"],
        ] {
            assert!(named(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn neighbours_are_one_range_and_what_lies_between_others_is_in_none() {
        let mut meant = Meant::default();
        meant.offsets.insert(0, BTreeSet::from([3, 4, 5, 7]));
        meant.offsets.insert(1, BTreeSet::from([8]));
        assert_eq!(meant.ranges(), [(0, 3..=5), (0, 7..=7), (1, 8..=8)]);
    }

    #[test]
    fn the_group_is_the_one_that_all_of_them_name() {
        let of = |groups: &[Option<&str>]| {
            let groups = groups.iter().map(|it| it.map(str::to_owned));
            let meant = Meant {
                groups: groups.collect(),
                ..Meant::default()
            };
            meant.group().map_err(|error| error.to_string())
        };
        assert_eq!(of(&[Some("a")]), Ok("a".to_owned()));
        assert!(of(&[None]).unwrap_err().contains("no consumer group"));
        assert!(of(&[Some("a"), Some("b")]).unwrap_err().contains("a, b"));
        assert!(of(&[Some("a"), None]).is_err());
    }
}
