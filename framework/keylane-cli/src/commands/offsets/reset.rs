//! `keylane offsets reset`: moves what a group has committed.
//!
//! The coordinator is the guard: it takes a commit from outside only while the group has no
//! members, and all partitions go in one request. What it describes before is only a better text.

use std::time::SystemTime;

use keylane::operator::{Members, NewOffset, Operator, OperatorError};
use keylane_core::{OffsetReset, Position, SettledAbove};

use super::super::Report;
use super::super::confirm::confirm;
use super::super::places::{Place, chosen_places};
use super::target::Target;
use crate::Ask;
use crate::arguments::{GroupArguments, ResetArguments};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::output::{Cell, Table};

const COLUMNS: &[&str] = &[
    "topic",
    "partition",
    "from",
    "to",
    "repeated",
    "skipped",
    "kept_settled",
    "state",
];

/// One partition's part.
struct Move {
    place: Place,
    to: Position,
    reset: OffsetReset,
}

impl Move {
    /// The metadata counts as well: a position that stays may have a map, or be of another log.
    fn changes(&self) -> bool {
        let committed = self.place.committed.as_ref();
        committed.is_none_or(|it| it.position != self.to || it.metadata != self.reset.metadata)
    }
}

pub(crate) fn run(
    connection: &Connection,
    arguments: &ResetArguments,
    ask: &mut Option<Ask<'_>>,
) -> Result<Report, Failure> {
    let target = Target::of(&arguments.target, SystemTime::now())?;
    let operator = connection.operator(&arguments.group)?;
    let moves = plan(&operator, arguments, target)?;
    let refusals = [live_members(&operator)?, skips(arguments, &moves)];
    let mut notes = Vec::new();
    let is_back = |it: &Move| it.place.begin().is_some_and(|from| it.to < from);
    if moves.iter().any(is_back) {
        let text = "what waits in a retry topic stays there, and is processed besides";
        notes.push(format!("note: {text}"));
    }
    let mut refusals = refusals.into_iter().flatten();
    if arguments.sure.dry_run {
        notes.extend(refusals.map(|text| format!("note: it would be refused: {text}")));
        notes.push("note: nothing was changed".to_owned());
        return Ok(report(arguments, &moves, notes, |_| Some("planned")));
    }
    if let Some(reason) = refusals.next() {
        return Err(Failure::Refused(reason));
    }
    if !moves.iter().any(Move::changes) {
        notes.push("note: every partition is there already".to_owned());
        return Ok(report(arguments, &moves, notes, |_| None));
    }
    if !arguments.sure.yes {
        confirm(ask, &question(arguments, &moves))?;
        check_again(&operator, arguments, &moves)?;
    }
    commit(&operator, arguments, &moves, notes)
}

/// Commits, and reads back what is there: an answer about several partitions has one error only.
fn commit(
    operator: &Operator,
    arguments: &ResetArguments,
    moves: &[Move],
    mut notes: Vec<String>,
) -> Result<Report, Failure> {
    let changing: Vec<&Move> = moves.iter().filter(|it| it.changes()).collect();
    let changes = changing.iter().map(|it| NewOffset {
        topic: arguments.topic.clone(),
        partition: it.place.partition,
        position: it.to,
        metadata: it.reset.metadata.clone(),
    });
    let failed = operator.commit(&changes.collect::<Vec<_>>()).err();
    let failed = match failed {
        Some(error @ OperatorError::LiveMembers { .. }) => return Err(error.into()),
        failed => failed,
    };
    let asked = changing
        .iter()
        .map(|it| (arguments.topic.clone(), it.place.partition));
    let there = operator.committed(&asked.collect::<Vec<_>>());
    // What was sent without an answer may still arrive.
    let may_arrive = matches!(failed, Some(OperatorError::Unanswered { .. }));
    // `None` where it is unknown.
    let is_done = |it: &Move| -> Option<bool> {
        let mut found = there.as_ref().ok()?.iter();
        let found = found.find(|found| found.partition == it.place.partition)?;
        let is_there = found.committed.as_ref().is_some_and(|committed| {
            committed.position == it.to && committed.metadata == it.reset.metadata
        });
        let is_known = is_there || !(found.is_refused || may_arrive);
        is_known.then_some(is_there)
    };
    let mut missing = Vec::from_iter(there.as_ref().err().map(ToString::to_string));
    if let Some(error) = failed {
        if changing.iter().all(|it| is_done(it) == Some(false)) {
            return Err(error.into());
        }
        notes.push(format!("note: {error}"));
    }
    missing.extend(changing.iter().filter_map(|it| {
        let place = format!("{}/{}", arguments.topic, it.place.partition);
        match is_done(it) {
            Some(true) => None,
            Some(false) => Some(format!(
                "{place} was not moved, or a member that started since has committed"
            )),
            None => Some(format!("{place}: state unknown, it may have been moved")),
        }
    }));
    let state = |it: &Move| (is_done(it) == Some(true)).then_some("moved");
    Ok(Report {
        missing,
        ..report(arguments, moves, notes, state)
    })
}

/// All partitions or none: a reset of only a part would be noticed late.
fn plan(
    operator: &Operator,
    arguments: &ResetArguments,
    target: Target,
) -> Result<Vec<Move>, Failure> {
    let named = named_places(operator, arguments)?;
    let partitions: Vec<i32> = named.iter().map(|place| place.partition).collect();
    let times = target.look_up(operator, &arguments.topic, &partitions)?;
    let above = match arguments.keep_settled {
        true => SettledAbove::Kept,
        false => SettledAbove::Repeated,
    };
    let mut moves = Vec::new();
    for (place, time) in named.into_iter().zip(times) {
        let refused = |reason: String| {
            Failure::Refused(format!("{}/{}: {reason}", place.topic, place.partition))
        };
        let range = place
            .range
            .ok_or_else(|| refused("its log cannot be read".into()))?;
        let position = place.committed_position();
        let of_this_log = position.filter(|_| !place.is_of_another_log());
        let to = target.position(of_this_log, range, time).map_err(refused)?;
        let committed = position.zip(place.content());
        let reset = OffsetReset::plan(committed, to, range, place.log, above);
        moves.push(Move { place, to, reset });
    }
    Ok(moves)
}

/// The partitions that are named, or all of the topic. Each can be read.
fn named_places(operator: &Operator, arguments: &ResetArguments) -> Result<Vec<Place>, Failure> {
    let group = GroupArguments {
        group: arguments.group.clone(),
        topics: vec![arguments.topic.clone()],
    };
    let named = &arguments.partitions;
    let is_named = |partition| named.is_empty() || named.contains(&partition);
    let found = chosen_places(operator, &group, is_named)?;
    if !found.missing.is_empty() {
        return Err(Failure::Refused(found.missing.join("; ")));
    }
    let is_there = |partition: &&i32| found.places.iter().any(|it| it.partition == **partition);
    if let Some(unknown) = named.iter().find(|it| !is_there(it)) {
        let text = format!("topic {} has no partition {unknown}", arguments.topic);
        return Err(Failure::Refused(text));
    }
    Ok(found.places)
}

/// Refuses what was true before the question, and is not after the answer.
fn check_again(
    operator: &Operator,
    arguments: &ResetArguments,
    moves: &[Move],
) -> Result<(), Failure> {
    let now = named_places(operator, arguments)?;
    let is_same = |it: &Move| {
        let mut same = now.iter().filter(|now| now.partition == it.place.partition);
        same.any(|now| {
            let range = now.range.map(|range| range.first..=range.end);
            now.committed == it.place.committed
                && now.log == it.place.log
                && range.is_some_and(|range| range.contains(&it.to))
        })
    };
    match now.len() == moves.len() && moves.iter().all(is_same) {
        true => Ok(()),
        false => Err(Failure::Refused(
            "nothing was changed: the group's commits or the log changed since the question; look again"
                .to_owned(),
        )),
    }
}

/// Why a reset that passes over unsettled offsets is refused, unless that was said.
fn skips(arguments: &ResetArguments, moves: &[Move]) -> Option<String> {
    let skipping = moves
        .iter()
        .filter(|it| it.changes() && it.reset.skipped != Some(0));
    let skipping: Vec<&Move> = skipping.collect();
    if arguments.skip || skipping.is_empty() {
        return None;
    }
    let numbers = skipping.iter().map(|it| it.place.partition.to_string());
    Some(format!(
        "{} unsettled offsets would never be processed (partitions {}): give --skip where that is meant",
        total(&skipping, |reset| reset.skipped),
        numbers.collect::<Vec<_>>().join(", "),
    ))
}

/// In words.
fn total(moves: &[&Move], figure: fn(&OffsetReset) -> Option<u64>) -> String {
    let sum: Option<u64> = moves.iter().map(|it| figure(&it.reset)).sum();
    sum.map_or("an unknown number of".to_owned(), |sum| sum.to_string())
}

/// Why members are in the way, as far as the coordinator can describe them.
fn live_members(operator: &Operator) -> Result<Option<String>, Failure> {
    match operator.members() {
        Ok(Members::Classic { count, state }) if count > 0 => {
            let text = format!("the group has live members ({count}, {state}): stop them first");
            Ok(Some(text))
        }
        // The commit finds it out.
        Ok(_) | Err(OperatorError::Failed { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn question(arguments: &ResetArguments, moves: &[Move]) -> String {
    let changing: Vec<&Move> = moves.iter().filter(|it| it.changes()).collect();
    format!(
        "Move {} partitions of {} for group {}: {} offsets are processed again, {} are skipped. Go on?",
        changing.len(),
        arguments.topic,
        arguments.group,
        total(&changing, |reset| reset.repeated),
        total(&changing, |reset| reset.skipped),
    )
}

/// `state` of those that change; `None` where it is unknown.
fn report(
    arguments: &ResetArguments,
    moves: &[Move],
    notes: Vec<String>,
    state: impl Fn(&Move) -> Option<&'static str>,
) -> Report {
    let mut table = Table::new(COLUMNS);
    for it in moves {
        let state = match it.changes() {
            true => Cell::known(state(it), Cell::text),
            false => Cell::text("unchanged"),
        };
        table.push(vec![
            Cell::text(&arguments.topic),
            Cell::Number(it.place.partition.into()),
            it.place
                .committed_position()
                .map_or(Cell::Nothing, |from| Cell::Number(from.get())),
            Cell::Number(it.to.get()),
            Cell::known(it.reset.repeated, Cell::count),
            Cell::known(it.reset.skipped, Cell::count),
            Cell::count(it.reset.kept),
            state,
        ]);
    }
    Report {
        notes,
        ..table.into()
    }
}
