//! The bodies of requests about dead letters.

use std::ops::RangeInclusive;
use std::time::SystemTime;

use keylane::redrive::{RedriveRequest, RedriveTask};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::answers::{Resolved, problem};
use super::{PATIENCE_OF_TASKS, Served};
use crate::orders::{DryRun, bad_body, no_order, note, order};
use crate::problem::Problem;

/// More letters at once are for the command, which reads them.
const MOST_RANGES: usize = 100;

/// A redrive, who orders it, and why.
#[derive(Debug)]
pub(super) struct RedriveOrder {
    pub(super) topic: String,
    pub(super) by: String,
    pub(super) why: String,
    pub(super) dry_run: DryRun,
    pub(super) request: RedriveRequest,
}

/// What a body has besides the fields of the library's request.
#[derive(Deserialize)]
struct Head {
    topic: Option<String>,
    by: String,
    why: String,
    #[serde(default)]
    dry_run: DryRun,
}

/// The fields of it.
pub(crate) const HEAD: [&str; 4] = ["topic", "by", "why", "dry_run"];

impl RedriveOrder {
    pub(super) fn read(body: &[u8], served: &dyn Served) -> Result<Self, Problem> {
        let mut fields: Map<String, Value> = order(body)?;
        let mut of_head = Map::new();
        for name in HEAD {
            of_head.extend(fields.remove_entry(name));
        }
        if fields.contains_key("through") {
            let text = "commands are not run for requests over HTTP: use `merge_patch`, or `keylane dlq redrive --through`";
            return Err(bad_body(text));
        }
        let head: Head = read(of_head)?;
        note(head.by.clone(), head.why.clone())?;
        let mut request: RedriveRequest = read(fields)?;
        let group = served.group();
        if request.group.as_deref().is_some_and(|it| it != group) {
            return Err(bad_body(format!(
                "`group` is that of the subscription, {group}: leave it out, or use `keylane dlq`"
            )));
        }
        request.group = Some(group.to_owned());
        Ok(Self {
            topic: topic(head.topic, served)?,
            by: head.by,
            why: head.why,
            dry_run: head.dry_run,
            request,
        })
    }

    pub(super) fn task(&self, served: &dyn Served) -> Result<RedriveTask, Problem> {
        let task = served.redrive(&self.topic);
        let task = task.requested(&self.request, SystemTime::now());
        let task = task.map_err(|error| problem(&error))?;
        Ok(task.by(&self.by).why(&self.why).patience(PATIENCE_OF_TASKS))
    }
}

fn read<T: serde::de::DeserializeOwned>(fields: Map<String, Value>) -> Result<T, Problem> {
    serde_json::from_value(Value::Object(fields)).map_err(|error| no_order(&error))
}

/// That of the subscription, unless one is named.
fn topic(named: Option<String>, served: &dyn Served) -> Result<String, Problem> {
    let own = || served.dead_letter_topic().map(str::to_owned);
    named
        .or_else(own)
        .ok_or_else(|| bad_body("the subscription has no dead-letter topic: name one by `topic`"))
}

/// Who ends or resumes a task, and why.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TaskOrder {
    pub(super) by: String,
    pub(super) why: String,
}

impl TaskOrder {
    pub(super) fn read(body: &[u8]) -> Result<Self, Problem> {
        let read: Self = order(body)?;
        note(read.by.clone(), read.why.clone())?;
        Ok(read)
    }
}

/// Letters that were handled by hand.
pub(super) struct ResolveOrder {
    pub(super) topic: String,
    pub(super) by: String,
    pub(super) why: String,
    pub(super) undo: bool,
    pub(super) dry_run: DryRun,
    letters: Vec<Range>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResolveBody {
    topic: Option<String>,
    letters: Vec<Range>,
    by: String,
    why: String,
    #[serde(default)]
    undo: bool,
    #[serde(default)]
    dry_run: DryRun,
}

/// Partition, first and last offset.
type Range = (i32, i64, i64);

impl ResolveOrder {
    pub(super) fn read(body: &[u8], served: &dyn Served) -> Result<Self, Problem> {
        let body: ResolveBody = order(body)?;
        note(body.by.clone(), body.why.clone())?;
        let is_range = |(partition, first, last): &Range| {
            *partition >= 0 && (0..=*last).contains(first) && *last < i64::MAX
        };
        if !(1..=MOST_RANGES).contains(&body.letters.len()) || !body.letters.iter().all(is_range) {
            return Err(bad_body(format!(
                "`letters` has 1 to {MOST_RANGES} ranges, each as [partition, first offset, last offset]"
            )));
        }
        Ok(Self {
            topic: topic(body.topic, served)?,
            by: body.by,
            why: body.why,
            undo: body.undo,
            dry_run: body.dry_run,
            letters: body.letters,
        })
    }

    pub(super) fn ranges(&self) -> Vec<(i32, RangeInclusive<i64>)> {
        let ranges = self.letters.iter();
        ranges
            .map(|(partition, first, last)| (*partition, *first..=*last))
            .collect()
    }

    pub(super) fn answer<'a>(&'a self, served: &'a dyn Served) -> Resolved<'a> {
        Resolved {
            subscription: served.name(),
            group: served.group(),
            topic: &self.topic,
            letters: &self.letters,
            dry_run: self.dry_run == DryRun::Yes,
            state: match self.undo {
                false => "resolved",
                true => "open",
            },
        }
    }
}
