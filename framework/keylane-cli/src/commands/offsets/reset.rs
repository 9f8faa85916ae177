//! `keylane offsets reset`: moves what a group has committed.
//!
//! The coordinator is the guard: it takes a commit from outside only while the group has no
//! members, and all partitions go in one request. What it describes before is only a better text.

use std::time::SystemTime;

use keylane::operator::{Members, NewOffset, Operator, OperatorError};
use keylane_core::{OffsetReset, Position, commit_map};

use super::super::Report;
use super::super::places::{Place, places};
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
    partition: i32,
    from: Option<Position>,
    to: Position,
    reset: OffsetReset,
}

impl Move {
    /// A position that stays keeps its map too.
    fn changes(&self) -> bool {
        self.from != Some(self.to)
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
    let members = live_members(&operator)?;
    let changes: Vec<NewOffset> = moves
        .iter()
        .filter(|it| it.changes())
        .map(|it| NewOffset {
            topic: arguments.topic.clone(),
            partition: it.partition,
            position: it.to,
            metadata: it.reset.metadata.clone(),
        })
        .collect();
    let mut notes = Vec::new();
    if moves
        .iter()
        .any(|it| it.from.is_some_and(|from| it.to < from))
    {
        let text = "what waits in a retry topic stays there, and is processed besides";
        notes.push(format!("note: {text}"));
    }
    if arguments.dry_run {
        notes.extend(members.map(|text| format!("note: it would be refused: {text}")));
        notes.push("note: nothing was changed".to_owned());
        return Ok(report(arguments, &moves, notes, |_| Some("planned")));
    }
    if let Some(members) = members {
        return Err(Failure::Refused(members));
    }
    if changes.is_empty() {
        notes.push("note: every partition is there already".to_owned());
        return Ok(report(arguments, &moves, notes, |_| None));
    }
    confirm(arguments, &moves, ask)?;
    let failed = match operator.commit(&changes) {
        Ok(()) => None,
        Err(error @ OperatorError::LiveMembers { .. }) => return Err(error.into()),
        Err(error) => Some(error),
    };
    // An answer about several partitions has one error only: what counts is what is there.
    let asked = changes.iter().map(|it| (it.topic.clone(), it.partition));
    let there = operator.committed(&asked.collect::<Vec<_>>())?;
    let is_done = |change: &NewOffset| {
        let mut found = there.iter().filter(|it| it.partition == change.partition);
        let committed = found.find_map(|it| it.committed.as_ref());
        committed.is_some_and(|it| it.position == change.position && it.metadata == change.metadata)
    };
    let undone: Vec<i32> = changes
        .iter()
        .filter(|change| !is_done(change))
        .map(|change| change.partition)
        .collect();
    if let Some(error) = failed {
        if undone.len() == changes.len() {
            return Err(error.into());
        }
        notes.push(format!("note: {error}"));
    }
    let state = |it: &Move| match undone.contains(&it.partition) {
        true => None,
        false => Some("moved"),
    };
    let mut report = report(arguments, &moves, notes, state);
    report.missing.extend(undone.iter().map(|partition| {
        let place = format!("{}/{partition}", arguments.topic);
        format!("{place} was not moved, or a member that started since has committed")
    }));
    Ok(report)
}

/// All partitions or none: a reset of a part that nobody asked for would be found out late.
fn plan(
    operator: &Operator,
    arguments: &ResetArguments,
    target: Target,
) -> Result<Vec<Move>, Failure> {
    let group = GroupArguments {
        group: arguments.group.clone(),
        topics: vec![arguments.topic.clone()],
    };
    let found = places(operator, &group)?;
    if !found.missing.is_empty() {
        return Err(Failure::Refused(found.missing.join("; ")));
    }
    let is_there = |partition: &&i32| found.places.iter().any(|it| it.partition == **partition);
    if let Some(unknown) = arguments.partitions.iter().find(|it| !is_there(it)) {
        let text = format!("topic {} has no partition {unknown}", arguments.topic);
        return Err(Failure::Refused(text));
    }
    let is_named = |place: &&Place| {
        arguments.partitions.is_empty() || arguments.partitions.contains(&place.partition)
    };
    let named: Vec<&Place> = found.places.iter().filter(is_named).collect();
    let partitions: Vec<i32> = named.iter().map(|place| place.partition).collect();
    let times = target.look_up(operator, &arguments.topic, &partitions)?;
    let log = operator
        .log_ids(&[&arguments.topic])
        .remove(&arguments.topic);
    let mut moves = Vec::new();
    for (place, time) in named.into_iter().zip(times) {
        let refused = |reason: String| {
            Failure::Refused(format!("{}/{}: {reason}", place.topic, place.partition))
        };
        let range = place
            .range
            .ok_or_else(|| refused("its log cannot be read".into()))?;
        let from = place.position();
        let to = target.position(from, range, time).map_err(refused)?;
        // Metadata that cannot be read counts as empty, as for members.
        let committed = place.committed.as_ref().map(|it| {
            let content = commit_map::decode(it.position, &it.metadata);
            (it.position, content.unwrap_or_default())
        });
        moves.push(Move {
            partition: place.partition,
            from,
            to,
            reset: OffsetReset::plan(committed, to, range, log),
        });
    }
    Ok(moves)
}

/// Why members are in the way, as far as the coordinator can describe them.
fn live_members(operator: &Operator) -> Result<Option<String>, Failure> {
    match operator.members() {
        Ok(Members::Classic { count, state }) if count > 0 => {
            let text = format!("the group has {count} live members ({state}): stop them first");
            Ok(Some(text))
        }
        // The commit finds it out.
        Ok(_) | Err(OperatorError::Failed { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn confirm(
    arguments: &ResetArguments,
    moves: &[Move],
    ask: &mut Option<Ask<'_>>,
) -> Result<(), Failure> {
    if arguments.yes {
        return Ok(());
    }
    let Some(ask) = ask else {
        let text = "nothing was changed: there is no terminal to ask at; look with --dry-run, then give --yes";
        return Err(Failure::Refused(text.to_owned()));
    };
    let total = |figure: fn(&OffsetReset) -> Option<u64>| {
        let of_changes = moves.iter().filter(|it| it.changes());
        let sum: Option<u64> = of_changes.map(|it| figure(&it.reset)).sum();
        sum.map_or("an unknown number of".to_owned(), |sum| sum.to_string())
    };
    let question = format!(
        "Move {} partitions of {} for group {}: {} offsets are processed again, {} are skipped. Go on?",
        moves.iter().filter(|it| it.changes()).count(),
        arguments.topic,
        arguments.group,
        total(|reset| reset.repeated),
        total(|reset| reset.skipped),
    );
    match ask(&question)? {
        true => Ok(()),
        false => Err(Failure::Refused("nothing was changed".to_owned())),
    }
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
            Cell::Number(it.partition.into()),
            it.from
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
