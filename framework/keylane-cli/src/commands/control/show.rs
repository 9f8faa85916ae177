//! `keylane control show`.

use std::time::{Duration, SystemTime};

use keylane::control::{Commander, InForce};
use keylane_core::control::{ControlKey, FRESH_FOR, Order, Tally};

use super::super::Report;
use super::millis;
use crate::failure::Failure;
use crate::output::{Cell, Table};

const COLUMNS: &[&str] = &["kind", "about", "state", "by", "why", "since", "until"];

pub(super) fn run(commander: &Commander) -> Result<Report, Failure> {
    let found = commander.read()?;
    let mut table = Table::new(COLUMNS);
    let now = millis(SystemTime::now());
    for (key, order) in found.directives.orders() {
        table.push(order_row(commander, &key, order, now));
    }
    for (key, refusal) in found.directives.refused() {
        table.push(vec![
            Cell::text("refused"),
            Cell::text(key.to_string()),
            Cell::text(refusal.to_string()),
            Cell::Nothing,
            Cell::Nothing,
            Cell::Nothing,
            Cell::Nothing,
        ]);
    }
    let left_out = found.directives.left_out();
    let revision = found.directives.revision();
    let tally = found.acks.tally(revision, found.live.as_ref(), now);
    for (name, ack) in found.acks.iter() {
        let state = if tally.stale.contains(name) {
            "gone"
        } else if tally.applied.contains(name) {
            "applied"
        } else if tally.refusing.contains(name) {
            "refuses records"
        } else {
            "behind"
        };
        table.push(vec![
            Cell::text("member"),
            Cell::text(name),
            Cell::text(state),
            Cell::text(&ack.host),
            Cell::Nothing,
            time(Some(ack.at_millis)),
            Cell::Nothing,
        ]);
    }
    let mut notes = vec![format!("revision {revision}: {}", applied(&found))];
    if left_out > 0 {
        notes.push(format!(
            "{left_out} records are left out: there are too many"
        ));
    }
    Ok(Report {
        notes,
        ..table.into()
    })
}

/// Which part of the members runs what the topic says.
pub(super) fn applied(found: &InForce) -> String {
    let tally = tally(found);
    let (applied, behind) = (tally.applied.len(), tally.behind.len());
    let refusing = match tally.refusing.len() {
        0 => String::new(),
        1 => ", 1 refuses records".to_owned(),
        some => format!(", {some} refuse records"),
    };
    match &found.live {
        Some(live) => format!("{applied} of {} applied{refusing}", live.len()),
        // The protocol `consumer`, or a group without members.
        None => format!(
            "{applied} of {} applied{refusing}, of members that have acknowledged in the last {}; which of them are \
             live is unknown",
            applied + behind + tally.refusing.len(),
            humantime::format_duration(FRESH_FOR)
        ),
    }
}

/// Whether every member that is known runs what the topic says.
pub(super) fn is_applied(found: &InForce) -> bool {
    let tally = tally(found);
    tally.behind.is_empty() && tally.refusing.is_empty() && tally.silent == 0
}

pub(super) fn tally(found: &InForce) -> Tally {
    let (revision, now) = (found.directives.revision(), millis(SystemTime::now()));
    found.acks.tally(revision, found.live.as_ref(), now)
}

fn order_row(commander: &Commander, key: &ControlKey, order: &Order, now: i64) -> Vec<Cell> {
    let (kind, about) = match key {
        ControlKey::Pause(scope) => ("pause", scope.to_string()),
        ControlKey::PauseKey { topic, key_hash } => {
            ("pause", format!("key {key_hash:016x} of topic {topic}"))
        }
        ControlKey::Skip {
            topic,
            partition,
            offset,
        } => ("skip", format!("{topic}/{partition}@{offset}")),
        key => ("other", key.to_string()),
    };
    let text = |text: &str| match text {
        "" => Cell::Nothing,
        text => Cell::text(text),
    };
    vec![
        Cell::text(kind),
        Cell::text(about),
        Cell::text(state(commander, key, order, now)),
        text(&order.by),
        text(&order.why),
        time(order.at_millis),
        time(order.until_millis),
    ]
}

fn state(commander: &Commander, key: &ControlKey, order: &Order, now: i64) -> &'static str {
    if !order.is_in_force(now) {
        return "ended";
    }
    let ControlKey::Skip { topic, .. } = key else {
        return "in force";
    };
    let there = order.log.and_then(|_| {
        commander
            .operator()
            .log_ids(&[topic.as_str()])
            .remove(topic)
    });
    match there {
        Some(there) if order.log != Some(there) => "void: the topic was re-created",
        _ => "in force",
    }
}

fn time(millis: Option<i64>) -> Cell {
    let millis = millis.and_then(|it| u64::try_from(it).ok());
    let time = millis.map(|it| SystemTime::UNIX_EPOCH + Duration::from_millis(it));
    time.map_or(Cell::Nothing, |it| {
        Cell::text(humantime::format_rfc3339_seconds(it).to_string())
    })
}
