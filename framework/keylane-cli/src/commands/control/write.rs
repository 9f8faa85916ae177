//! `keylane pause`, `resume` and `skip`.

use std::time::SystemTime;

use keylane::control::Commander;
use keylane::record::KeyHash;
use keylane_core::commit_map;
use keylane_core::control::{ControlKey, Order, PauseScope};

use super::super::Report;
use super::arguments::{PauseArguments, Place, ResumeArguments, SkipArguments, WhatArguments};
use super::{commander, show};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::output::{Cell, Table};

const COLUMNS: &[&str] = &["topic", "key", "order", "revision"];

pub(crate) fn pause(
    connection: &Connection,
    arguments: &PauseArguments,
) -> Result<Report, Failure> {
    let now = SystemTime::now();
    let until = arguments.until.as_deref().map(|text| end(text, now));
    let note = &arguments.note;
    let order = Order {
        until_millis: until.transpose()?,
        ..order(connection, Some(&note.why), note.by.as_deref(), now)?
    };
    let commander = commander(connection, &arguments.group)?;
    write(&commander, &key(&arguments.what), Some(&order))
}

pub(crate) fn resume(
    connection: &Connection,
    arguments: &ResumeArguments,
) -> Result<Report, Failure> {
    let commander = commander(connection, &arguments.group)?;
    take_back(&commander, &key(&arguments.what))
}

pub(crate) fn skip(connection: &Connection, arguments: &SkipArguments) -> Result<Report, Failure> {
    let commander = commander(connection, &arguments.group)?;
    let Place { partition, offset } = &arguments.record;
    let key = ControlKey::Skip {
        topic: partition.topic.clone(),
        partition: partition.partition,
        offset: *offset,
    };
    if arguments.cancel {
        return take_back(&commander, &key);
    }
    let now = SystemTime::now();
    let mut order = order(
        connection,
        arguments.why.as_deref(),
        arguments.by.as_deref(),
        now,
    )?;
    let notes = look_at(&commander, &arguments.record, &mut order)?;
    let report = write(&commander, &key, Some(&order))?;
    Ok(Report {
        notes: [notes, report.notes].concat(),
        ..report
    })
}

/// Refuses a skip that would do nothing, and names the log that it is about.
fn look_at(
    commander: &Commander,
    record: &Place,
    order: &mut Order,
) -> Result<Vec<String>, Failure> {
    let (operator, offset) = (commander.operator(), record.offset);
    let (topic, partition) = (&record.partition.topic, record.partition.partition);
    let range = operator.range(topic, partition)?;
    if range.first.get() > offset.get() || range.end.get() <= offset.get() {
        return Err(Failure::Refused(format!(
            "{topic}/{partition} has no record at offset {offset}: it holds {} up to before {}",
            range.first, range.end
        )));
    }
    order.log = operator.log_ids(&[topic.as_str()]).remove(topic);
    let committed = operator.committed(&[(topic.clone(), partition)])?;
    let committed = committed.into_iter().find_map(|it| it.committed);
    if let Some(committed) = committed {
        let content =
            commit_map::decode(committed.position, &committed.metadata).unwrap_or_default();
        let is_of_it = content.log.is_none() || order.log.is_none() || content.log == order.log;
        let is_settled = !committed.position.covers(offset) || content.settled.contains(offset);
        if is_of_it && is_settled {
            return Err(Failure::Refused(format!(
                "{topic}/{partition}@{offset} is settled already"
            )));
        }
    }
    let unnamed = order.log.is_none().then(|| {
        format!("the brokers have no id of topic {topic}: the skip would hold for another topic of this name too")
    });
    Ok(unnamed.into_iter().collect())
}

fn take_back(commander: &Commander, key: &ControlKey) -> Result<Report, Failure> {
    let found = commander.read()?;
    let mut known: Vec<_> = found.directives.orders().map(|(key, _)| key).collect();
    known.extend(found.directives.refused().map(|(key, _)| key.clone()));
    if !known.contains(key) {
        let others: Vec<_> = known.iter().take(10).map(ToString::to_string).collect();
        let others = match others.as_slice() {
            [] => "nothing".to_owned(),
            some => some.join(", "),
        };
        return Err(Failure::Refused(format!(
            "nothing is ordered for `{key}` in {}, which has {others}",
            commander.topic()
        )));
    }
    write(commander, key, None)
}

fn write(
    commander: &Commander,
    key: &ControlKey,
    order: Option<&Order>,
) -> Result<Report, Failure> {
    let written = commander.write(key, order)?;
    let row = vec![
        Cell::text(commander.topic()),
        Cell::text(key.to_string()),
        Cell::said(
            if order.is_some() {
                "written"
            } else {
                "taken back"
            },
            order.is_some(),
        ),
        Cell::Number(written.next().get()),
    ];
    // The members' answers come a moment later.
    let members = match commander.read() {
        Ok(found) if found.acks.iter().next().is_none() => {
            "no member has ever acknowledged anything in it: set control_topic in their settings"
                .to_owned()
        }
        Ok(found) => format!("now {}; see keylane control show", show::applied(&found)),
        Err(error) => format!("which members have applied it is unknown: {error}"),
    };
    Ok(Report {
        notes: vec![members],
        ..Table::of_one(COLUMNS, row).into()
    })
}

fn key(what: &WhatArguments) -> ControlKey {
    let Some(topic) = what.topic.clone() else {
        return ControlKey::Pause(PauseScope::Subscription);
    };
    let of_key = what.key.as_ref().map(|key| KeyHash::of(key.as_bytes()));
    match (what.key_hash.or(of_key), what.partition) {
        (Some(hash), _) => {
            let key_hash = number(hash);
            ControlKey::PauseKey { topic, key_hash }
        }
        (None, Some(partition)) => ControlKey::Pause(PauseScope::Partition(topic, partition)),
        (None, None) => ControlKey::Pause(PauseScope::Topic(topic)),
    }
}

/// As the topic's keys have it.
fn number(hash: KeyHash) -> u64 {
    // It is what it shows.
    u64::from_str_radix(&hash.to_string(), 16).unwrap_or_default()
}

fn order(
    connection: &Connection,
    why: Option<&str>,
    by: Option<&str>,
    now: SystemTime,
) -> Result<Order, Failure> {
    let by = by.or_else(|| connection.user()).ok_or_else(|| {
        Failure::Usage("say by whom it is ordered: --by WHO, or the variable USER".to_owned())
    })?;
    Ok(Order {
        by: by.to_owned(),
        why: why.unwrap_or_default().to_owned(),
        at_millis: Some(millis(now)),
        ..Order::default()
    })
}

/// When an order ends, in milliseconds since 1970.
fn end(text: &str, now: SystemTime) -> Result<i64, Failure> {
    let end = match humantime::parse_duration(text) {
        Ok(from_now) => now.checked_add(from_now),
        Err(_) => humantime::parse_rfc3339_weak(text).ok(),
    };
    let end = end.ok_or_else(|| {
        Failure::Usage(format!(
            "`{text}` is no time: give 2026-11-30T14:00:00Z, or 2h for two hours from now"
        ))
    })?;
    if end <= now {
        return Err(Failure::Usage(format!("{text} is over already")));
    }
    Ok(millis(end))
}

fn millis(time: SystemTime) -> i64 {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn what(topic: Option<&str>, partition: Option<i32>, key: Option<&str>) -> String {
        let what = WhatArguments {
            topic: topic.map(str::to_owned),
            partition,
            key: key.map(str::to_owned),
            key_hash: None,
        };
        super::key(&what).to_string()
    }

    #[test]
    fn what_is_paused_is_named_by_the_key_of_the_record() {
        assert_eq!(what(None, None, None), "pause");
        assert_eq!(what(Some("a"), None, None), "pause/a");
        assert_eq!(what(Some("a"), Some(3), None), "pause/a/3");
        assert_eq!(
            what(Some("a"), None, Some("vehicle-4711")),
            "pause-key/a/1f60e652ab9e07d6"
        );
    }

    #[test]
    fn an_end_is_a_time_or_a_while_from_now_and_not_over() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        assert_eq!(end("2h", now).unwrap(), 1_000_007_200_000);
        assert_eq!(end("2026-11-30T14:00:00Z", now).unwrap(), 1_796_047_200_000);
        for wrong in ["tomorrow", "", "1970-01-01T00:00:00Z", "0s"] {
            assert!(end(wrong, now).is_err(), "{wrong}");
        }
    }
}
