//! `keylane pause`, `resume` and `skip`.

use std::time::{Duration, Instant, SystemTime};

use keylane::control::{Commander, InForce};
use keylane::record::KeyHash;
use keylane_core::control::{ControlKey, Order, PauseScope};
use keylane_core::{Position, commit_map};

use super::super::Report;
use super::arguments::{
    HowArguments, PauseArguments, Place, ResumeArguments, SkipArguments, WhatArguments,
};
use super::{commander, millis, show};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::output::{Cell, Table};

const COLUMNS: &[&str] = &["topic", "key", "order", "revision"];
/// How often the members' acknowledgements are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

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
    let key = key(&arguments.what);
    let found = commander.read()?;
    let mut notes = check_place(&commander, &arguments.what)?;
    let other = order_of(&found, &key).filter(|it| it.is_in_force(millis(now)));
    if let Some(other) = other {
        let said = described(other);
        if other.by != order.by && !arguments.replace {
            return Err(Failure::Refused(format!(
                "`{key}` is in force, {said}; --replace takes its place, and it is gone then"
            )));
        }
        notes.push(format!("it takes the place of the one {said}"));
    }
    let write = Write {
        commander: &commander,
        how: &arguments.how,
        patience: connection.patience(),
        notes,
    };
    write.carry_out(&key, Some(&order))
}

pub(crate) fn resume(
    connection: &Connection,
    arguments: &ResumeArguments,
) -> Result<Report, Failure> {
    let commander = commander(connection, &arguments.group)?;
    let write = Write {
        commander: &commander,
        how: &arguments.how,
        patience: connection.patience(),
        notes: Vec::new(),
    };
    write.take_back(&key(&arguments.what))
}

pub(crate) fn skip(connection: &Connection, arguments: &SkipArguments) -> Result<Report, Failure> {
    let commander = commander(connection, &arguments.group)?;
    let Place { partition, offset } = &arguments.record;
    let key = ControlKey::Skip {
        topic: partition.topic.clone(),
        partition: partition.partition,
        offset: *offset,
    };
    let mut write = Write {
        commander: &commander,
        how: &arguments.how,
        patience: connection.patience(),
        notes: Vec::new(),
    };
    if arguments.cancel {
        return write.take_back(&key);
    }
    let now = SystemTime::now();
    let mut order = order(
        connection,
        arguments.why.as_deref(),
        arguments.by.as_deref(),
        now,
    )?;
    write.notes = look_at(&commander, &arguments.record, &mut order)?;
    write.carry_out(&key, Some(&order))
}

/// Refuses what does not exist; notes where the group has committed nothing.
fn check_place(commander: &Commander, what: &WhatArguments) -> Result<Vec<String>, Failure> {
    let Some(topic) = &what.topic else {
        return Ok(Vec::new());
    };
    let found = commander.operator().topic(topic)?;
    let partitions: Vec<i32> = found.partitions.iter().map(|(id, _)| *id).collect();
    if let Some(partition) = what.partition.filter(|it| !partitions.contains(it)) {
        return Err(Failure::Refused(format!(
            "{topic} has {} partitions, and no partition {partition}",
            partitions.len()
        )));
    }
    let places: Vec<_> = partitions.iter().map(|it| (topic.clone(), *it)).collect();
    let committed = commander.operator().committed(&places)?;
    let reads = committed.iter().any(|it| it.committed.is_some());
    let unread = (!reads).then(|| format!("the group has committed nothing of topic {topic}"));
    Ok(unread.into_iter().collect())
}

/// Refuses a skip that would do nothing, and names the record that it is about.
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
    if order.log.is_none() && operator.has_controller() {
        return Err(Failure::Refused(format!(
            "the brokers do not answer with the id of topic {topic}: the skip would hold for another topic of this \
             name too; try again"
        )));
    }
    let mut notes = Vec::new();
    let committed = operator.committed(&[(topic.clone(), partition)])?;
    match committed.into_iter().find_map(|it| it.committed) {
        Some(committed) => {
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
        None => notes.push(format!(
            "the group has committed nothing of {topic}/{partition}"
        )),
    }
    let from = [(partition, Position::new(offset.get()))];
    let read = operator.first_records(topic, &from, |_, _| true)?;
    let head = read.get(&partition).and_then(Option::as_ref);
    let Some(head) = head.filter(|head| head.offset == offset) else {
        return Err(Failure::Refused(format!(
            "{topic}/{partition}@{offset} cannot be read: it was compacted away, is no record of an application, or \
             the brokers did not answer in time"
        )));
    };
    order.leader_epoch = head.leader_epoch;
    if order.leader_epoch.is_none() {
        return Err(Failure::Refused(format!(
            "{topic}/{partition}@{offset} has no leader epoch, as in the formats before Kafka 0.11: the skip would hold \
             for another record at this offset too; skip it at the member that has it, by its admin endpoint"
        )));
    }
    if order.log.is_none() {
        notes.push(format!(
            "the brokers have no id of topic {topic}: the skip would hold for another topic of this name too"
        ));
    }
    Ok(notes)
}

fn order_of<'a>(found: &'a InForce, key: &ControlKey) -> Option<&'a Order> {
    let mut orders = found.directives.orders();
    orders.find_map(|(other, order)| (other == *key).then_some(order))
}

fn described(order: &Order) -> String {
    let until = order.until_millis.and_then(|it| u64::try_from(it).ok());
    let until = until.map_or_else(String::new, |it| {
        let until = SystemTime::UNIX_EPOCH + Duration::from_millis(it);
        format!(" until {}", humantime::format_rfc3339_seconds(until))
    });
    format!("by {}{until}: {}", order.by, order.why)
}

/// An order on its way.
struct Write<'a> {
    commander: &'a Commander,
    how: &'a HowArguments,
    patience: Duration,
    notes: Vec<String>,
}

impl Write<'_> {
    fn take_back(mut self, key: &ControlKey) -> Result<Report, Failure> {
        let found = self.commander.read()?;
        let directives = &found.directives;
        let mut known: Vec<_> = directives.orders().map(|(key, _)| key).collect();
        known.extend(directives.refused().map(|(key, _)| key.clone()));
        // What was left out for want of room is in neither.
        if !known.contains(key) && directives.left_out() == 0 {
            let others: Vec<_> = known.iter().take(10).map(ToString::to_string).collect();
            let others = match others.as_slice() {
                [] => "nothing".to_owned(),
                some => some.join(", "),
            };
            return Err(Failure::Refused(format!(
                "nothing is ordered for `{key}` in {}, which has {others}",
                self.commander.topic()
            )));
        }
        if let Some(order) = order_of(&found, key) {
            self.notes.push(format!("it was {}", described(order)));
        }
        self.carry_out(key, None)
    }

    fn carry_out(mut self, key: &ControlKey, order: Option<&Order>) -> Result<Report, Failure> {
        let (said, revision) = if self.how.dry_run {
            ("would be written", Cell::Nothing)
        } else {
            let written = self.commander.write(key, order)?;
            let said = if order.is_some() {
                "written"
            } else {
                "taken back"
            };
            (said, Cell::Number(written.next().get()))
        };
        let row = vec![
            Cell::text(self.commander.topic()),
            Cell::text(key.to_string()),
            Cell::said(said, order.is_some() && !self.how.dry_run),
            revision,
        ];
        let missing = match self.how.dry_run {
            true => None,
            false => self.look_for_members(),
        };
        Ok(Report {
            notes: self.notes,
            missing: missing.into_iter().collect(),
            ..Table::of_one(COLUMNS, row).into()
        })
    }

    /// Waits until the members have applied it; otherwise what is missing.
    fn look_for_members(&mut self) -> Option<String> {
        let deadline = Instant::now() + self.patience;
        loop {
            let found = match self.commander.read() {
                Ok(found) => found,
                Err(error) => {
                    return Some(format!("which members have applied it is unknown: {error}"));
                }
            };
            let is_over = self.how.no_wait || Instant::now() >= deadline;
            let is_applied = show::is_applied(&found);
            if !is_applied && !is_over {
                std::thread::sleep(LOOK_EVERY);
                continue;
            }
            let mut said = format!("now {}; see keylane control show", show::applied(&found));
            if found.acks.iter().next().is_none() {
                said = "no member has ever acknowledged anything in it: set control_topic in their settings"
                    .to_owned();
            }
            if is_applied || self.how.no_wait {
                self.notes.push(said);
                return None;
            }
            return Some(said);
        }
    }
}

fn key(what: &WhatArguments) -> ControlKey {
    let Some(topic) = what.topic.clone() else {
        return ControlKey::Pause(PauseScope::Subscription);
    };
    let of_key = what.key.as_ref().map(|key| KeyHash::of(key.as_bytes()));
    match (what.key_hash.or(of_key), what.partition) {
        (Some(hash), _) => {
            let key_hash = hash.get();
            ControlKey::PauseKey { topic, key_hash }
        }
        (None, Some(partition)) => ControlKey::Pause(PauseScope::Partition(topic, partition)),
        (None, None) => ControlKey::Pause(PauseScope::Topic(topic)),
    }
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

#[cfg(test)]
mod tests {
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
