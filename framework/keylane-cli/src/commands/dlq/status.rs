//! `keylane dlq status`: the redrives of a group.

use std::time::SystemTime;

use keylane::redrive::ops::{TaskState, TaskStatus};
use serde_json::{Value, json};

use super::super::Report;
use super::{cells, ops};
use crate::arguments::StatusArguments;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::output::{Cell, Table};

const COLUMNS: &[&str] = &[
    "group",
    "task",
    "topic",
    "state",
    "done",
    "of",
    "gone",
    "refused",
    "by",
    "started",
    "last_progress",
    "ended",
];

const COLUMNS_OF_ONE: &[&str] = &[
    "group",
    "task",
    "topic",
    "state",
    "reason",
    "done",
    "of",
    "gone",
    "refused",
    "matched",
    "handled_before",
    "refused_at_start",
    "filter",
    "targets",
    "window",
    "rate",
    "max",
    "canary",
    "max_count",
    "edit",
    "by",
    "host",
    "started",
    "last_progress",
    "ended",
    "cancel",
];

pub(super) fn run(connection: &Connection, arguments: &StatusArguments) -> Result<Report, Failure> {
    let groups = match &arguments.group {
        Some(group) => vec![group.clone()],
        None => ops::groups(connection)?,
    };
    if let (Some(id), [group]) = (&arguments.task, &groups[..]) {
        return one(connection, group, id);
    }
    let mut missing = Vec::new();
    let mut rows = Vec::new();
    for group in &groups {
        let (state, unread) = ops::state(connection, group)?;
        missing.extend(unread);
        rows.extend(
            state
                .tasks()
                .map(|task| (task.record.started, row(group, &task))),
        );
    }
    // The last one that was started comes first.
    rows.sort_by(|(one, _), (other, _)| other.cmp(one));
    let mut notes = Vec::new();
    if rows.is_empty() {
        notes.push("note: there is no redrive, and there was none".to_owned());
    }
    let mut table = Table::new(COLUMNS);
    rows.into_iter().for_each(|(_, row)| table.push(row));
    Ok(Report {
        notes,
        missing,
        ..table.into()
    })
}

fn one(connection: &Connection, group: &str, id: &str) -> Result<Report, Failure> {
    let (state, missing) = ops::state(connection, group)?;
    let task = state
        .task(id)
        .ok_or_else(|| Failure::Refused(format!("group {group} has no redrive {id}")))?;
    let table = Table::of_one(COLUMNS_OF_ONE, whole(group, &task));
    Ok(Report {
        missing,
        ..table.into()
    })
}

fn row(group: &str, task: &TaskStatus<'_>) -> Vec<Cell> {
    let record = task.record;
    let [done, of, gone, refused] = figures(task);
    vec![
        Cell::text(group),
        Cell::text(task.id),
        Cell::text(&record.topic),
        state(task),
        done,
        of,
        gone,
        refused,
        Cell::text(&record.who),
        cells::time(Some(record.started)),
        cells::time(last_progress(task)),
        cells::time(record.ended),
    ]
}

fn whole(group: &str, task: &TaskStatus<'_>) -> Vec<Cell> {
    let record = task.record;
    let (counts, settings) = (&record.counts, &record.settings);
    let [done, of, gone, refused] = figures(task);
    let number = |number: Option<u64>| cells::optional(number, Cell::count);
    let canary = settings.canary.map(|it| {
        let value = json!({"copies": it.copies, "percent": it.percent});
        Cell::said(
            format!("{} copies, {} percent", it.copies, it.percent),
            value,
        )
    });
    let cancel = task.cancel.map(|it| {
        let value = json!({"by": it.who, "why": it.why});
        Cell::said(format!("by {}: {}", it.who, it.why), value)
    });
    vec![
        Cell::text(group),
        Cell::text(task.id),
        Cell::text(&record.topic),
        state(task),
        cells::text(record.reason.as_deref()),
        done,
        of,
        gone,
        refused,
        Cell::count(counts.matched),
        Cell::count(counts.handled),
        Cell::count(counts.guard + counts.refused),
        cells::text(Some(record.filter.as_str()).filter(|it| !it.is_empty())),
        Cell::said(record.targets.join(", "), json!(record.targets)),
        Cell::Number(settings.window.into()),
        number(settings.rate.map(Into::into)),
        number(settings.max),
        canary.unwrap_or(Cell::Nothing),
        Cell::Number(record.max_count.into()),
        cells::text(record.edit.as_deref()),
        Cell::text(&record.who),
        Cell::text(&record.host),
        cells::time(Some(record.started)),
        cells::time(last_progress(task)),
        cells::time(record.ended),
        cancel.unwrap_or(Cell::Nothing),
    ]
}

/// Turns that are done, those that there are, and of those that are done the letters that were gone,
/// and those that were passed over.
fn figures(task: &TaskStatus<'_>) -> [Cell; 4] {
    let turns = task.record.counts.turns;
    let of = task.record.settings.max.map_or(turns, |max| max.min(turns));
    let progress = task.progress;
    [
        Cell::count(progress.map_or(0, |it| it.done)),
        Cell::count(of),
        Cell::count(progress.map_or(0, |it| it.gone)),
        Cell::count(progress.map_or(0, |it| it.refused.len() as u64)),
    ]
}

fn last_progress(task: &TaskStatus<'_>) -> Option<SystemTime> {
    task.progress.map(|it| it.at)
}

fn state(task: &TaskStatus<'_>) -> Cell {
    let word = in_a_word(task.record.state);
    match (task.record.state, task.cancel) {
        (TaskState::Running, Some(_)) => Cell::said("running, is to end", word),
        _ => Cell::text(word),
    }
}

pub(super) fn in_a_word(state: TaskState) -> String {
    match serde_json::to_value(state) {
        Ok(Value::String(word)) => word,
        _ => "unknown".to_owned(),
    }
}
