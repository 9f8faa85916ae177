//! What a redrive would do, in words.

use std::cmp::min;

use keylane::redrive::{PlanRefusal, Planned};

use crate::output::{Cell, Table};

const COLUMNS: &[&str] = &["id", "count", "fingerprint"];
/// How a kind of refusal is named by the library.
const NO_RETRY_TOPIC: &str = "no-retry-topic";
/// Of each kind of refusal.
const EXAMPLES: usize = 3;

/// What to do about letters that name no retry topic.
const NO_RETRY_TOPIC_ADVICE: &str = "\
they name no retry topic of their group. Choose one: \
--retry-topic TOPIC --group GROUP, where the group reads TOPIC as its retry topic; \
--to TOPIC, where every group that reads TOPIC gets the records; \
--to origin, where every group that reads the origin gets them again. \
To have an entry for the group from now on, give its subscription a retry topic: `Retry::default().then_topic()`, or \
`retry: {topic: {}}` in its settings file";

pub(super) struct Plan<'a> {
    pub(super) planned: &'a Planned,
    pub(super) max: Option<u64>,
    pub(super) take_over: bool,
}

impl Plan<'_> {
    /// How many copies there would be.
    pub(super) fn copies(&self) -> u64 {
        let turns = self.planned.turns;
        self.max.map_or(turns, |max| min(max, turns))
    }

    /// Every letter that matches, by what those that fail alike have in common.
    pub(super) fn table(&self) -> Table {
        let mut table = Table::new(COLUMNS);
        // The names of the columns are those of the plan's fields.
        let planned = serde_json::to_value(self.planned).unwrap_or_default();
        for counted in planned["fingerprints"].as_array().into_iter().flatten() {
            let cells = COLUMNS.iter().map(|name| {
                debug_assert!(counted.get(*name).is_some(), "a plan has no {name}");
                Cell::of(counted[*name].clone())
            });
            table.push(cells.collect());
        }
        let others = self.planned.other_fingerprints;
        if others > 0 {
            let is_other = serde_json::json!({"is_other": true});
            let others = vec![
                Cell::Nothing,
                Cell::count(others),
                Cell::said("(all others)", is_other),
            ];
            table.push(others);
        }
        table
    }

    pub(super) fn notes(&self) -> Vec<String> {
        let planned = self.planned;
        let mut notes = vec![format!(
            "note: {} dead letters match, of group {}; {} would be copied",
            planned.matched,
            planned.group,
            self.copies()
        )];
        for (count, what) in [
            (
                planned.handled,
                "were written back or resolved before, and are left out",
            ),
            (planned.of_other_groups, "match, but are of other groups"),
            (
                planned.not_letters,
                "other records of the topic are no dead letters",
            ),
        ] {
            if count > 0 {
                notes.push(format!("note: {count} {what}"));
            }
        }
        if planned.turns > 0 {
            notes.push(format!("note: copies go to {}", self.targets()));
        }
        if planned.for_every_group && planned.turns > 0 {
            let targets = self.targets();
            notes.push(format!(
                "WARNING: EVERY GROUP THAT READS {targets} GETS THE RECORDS AGAIN"
            ));
        }
        for (kind, refusals) in &planned.refused {
            let advice = match *kind == NO_RETRY_TOPIC {
                true => NO_RETRY_TOPIC_ADVICE.to_owned(),
                false => refusals
                    .examples
                    .iter()
                    .take(EXAMPLES)
                    .cloned()
                    .collect::<Vec<_>>()
                    .join("; "),
            };
            notes.push(format!(
                "note: {} would not be copied: {advice}",
                refusals.count
            ));
        }
        notes
    }

    /// Why it is not done at all.
    pub(super) fn refusal(&self) -> Option<String> {
        Some(match self.planned.refusal(self.take_over)? {
            PlanRefusal::Unfinished { id } => format!(
                "the redrive {id} of {} has not ended: it runs, or its process was killed; go on with it by --resume \
                 {id}, or end it by --take-over",
                self.planned.topic
            ),
            PlanRefusal::NoRetryTopic { count } => {
                format!("{count} dead letters match, and {NO_RETRY_TOPIC_ADVICE}")
            }
            PlanRefusal::NoneCanBeCopied { count, examples } => {
                let examples: Vec<&str> =
                    examples.iter().take(EXAMPLES).map(String::as_str).collect();
                format!(
                    "{count} dead letters match, and none can be copied: {}",
                    examples.join("; ")
                )
            }
            _ => "the redrive would not begin".to_owned(),
        })
    }

    pub(super) fn question(&self) -> String {
        let (copies, targets) = (self.copies(), self.targets());
        let readers = match self.planned.for_every_group {
            true => {
                "where every group that reads it gets them, also groups that have processed them"
                    .to_owned()
            }
            false => format!("for group {}", self.planned.group),
        };
        format!(
            "Copy {copies} dead letters of {} to {targets}, {readers}. Go on?",
            self.planned.topic
        )
    }

    fn targets(&self) -> String {
        let targets = self.planned.targets.keys().map(String::as_str);
        targets.collect::<Vec<_>>().join(", ")
    }
}
