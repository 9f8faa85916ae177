//! Dead letters counted by what they have in common. Bounded, whatever is counted.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keylane::dead_letter::{Fingerprint, StoredLetter};
use keylane::record::KeyHash;

use super::cells;
use crate::arguments::By;
use crate::output::{Cell, Table};

/// Further groups are one.
const MOST_GROUPS: usize = 10_000;
const SECONDS_OF_AN_HOUR: u64 = 3_600;

/// What the letters of a group have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Common {
    Fingerprint(Fingerprint),
    Text(String),
    /// In hours since 1970.
    Hour(u64),
    /// The key itself may be long.
    Key(KeyHash),
    /// They do not say it.
    Nothing,
}

/// How many letters, from when to when, and where one is.
#[derive(Debug)]
struct Group {
    count: u64,
    first: Option<SystemTime>,
    last: Option<SystemTime>,
    example: (i32, i64),
    /// The key, cut; only where letters are counted by it.
    key: Option<Cell>,
}

pub(super) struct Histogram {
    by: By,
    most_groups: usize,
    groups: HashMap<Common, Group>,
    other: Option<Group>,
    total: u64,
}

impl Histogram {
    pub(super) fn new(by: By) -> Self {
        Self {
            by,
            most_groups: MOST_GROUPS,
            groups: HashMap::new(),
            other: None,
            total: 0,
        }
    }

    pub(super) fn count(&mut self, letter: &StoredLetter) {
        self.total += 1;
        let common = common(self.by, letter);
        if let Some(group) = self.groups.get_mut(&common) {
            group.count(letter);
        } else if self.groups.len() < self.most_groups {
            self.groups.insert(common, Group::of(self.by, letter));
        } else if let Some(group) = &mut self.other {
            group.count(letter);
        } else {
            self.other = Some(Group::of(self.by, letter));
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Whether there were more groups than it counts.
    pub(super) fn is_cut(&self) -> bool {
        self.other.is_some()
    }

    /// The largest group first, and hours by time.
    pub(super) fn table(self, topic: &str) -> Table {
        let mut groups: Vec<(Common, Group)> = self.groups.into_iter().collect();
        groups.sort_by(|(one, of_one), (other, of_other)| {
            let by_count = match self.by {
                By::Hour => std::cmp::Ordering::Equal,
                _ => of_other.count.cmp(&of_one.count),
            };
            by_count.then_with(|| one.cmp(other))
        });
        let mut table = Table::new(columns(self.by));
        let mut push = |id: Option<Cell>, group: &Group, common: Cell| {
            let mut row = Vec::from_iter(id);
            row.extend(group.cells(topic));
            row.push(common);
            table.push(row);
        };
        for (common, group) in &groups {
            let (id, common) = match common {
                Common::Fingerprint(it) => (Some(Cell::text(it.id())), Cell::text(it.text())),
                Common::Text(text) => (None, Cell::text(text)),
                Common::Hour(hour) => (None, cells::time(Some(start_of(*hour)))),
                Common::Key(hash) => {
                    let key = group.key.clone().unwrap_or(Cell::Nothing);
                    (Some(Cell::text(hash.to_string())), key)
                }
                Common::Nothing => (has_id(self.by).then_some(Cell::Nothing), Cell::Nothing),
            };
            push(id, group, common);
        }
        if let Some(other) = &self.other {
            let id = has_id(self.by).then_some(Cell::Nothing);
            let is_other = serde_json::json!({"is_other": true});
            push(id, other, Cell::said("(all others)", is_other));
        }
        table
    }
}

fn has_id(by: By) -> bool {
    matches!(by, By::Fingerprint | By::Key)
}

fn columns(by: By) -> &'static [&'static str] {
    match by {
        By::Fingerprint => &["id", "count", "first", "last", "example", "fingerprint"],
        By::Key => &["key_hash", "count", "first", "last", "example", "key"],
        By::Reason => &["count", "first", "last", "example", "reason"],
        By::Class => &["count", "first", "last", "example", "class"],
        By::Group => &["count", "first", "last", "example", "group"],
        By::Hour => &["count", "first", "last", "example", "hour"],
    }
}

fn common(by: By, stored: &StoredLetter) -> Common {
    let letter = stored.letter();
    let text = |text: &Option<String>| text.clone().map(Common::Text);
    let common = match by {
        By::Fingerprint => Some(Common::Fingerprint(stored.fingerprint())),
        By::Reason => text(&letter.reason),
        By::Class => text(&letter.error_class),
        By::Group => text(&letter.group),
        By::Key => stored.key().map(|key| Common::Key(KeyHash::of(key))),
        By::Hour => stored.given_up_at().and_then(|at| {
            let since_epoch = at.duration_since(UNIX_EPOCH).ok()?;
            Some(Common::Hour(since_epoch.as_secs() / SECONDS_OF_AN_HOUR))
        }),
    };
    common.unwrap_or(Common::Nothing)
}

fn start_of(hour: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(hour * SECONDS_OF_AN_HOUR)
}

impl Group {
    fn of(by: By, letter: &StoredLetter) -> Self {
        let at = letter.given_up_at();
        Self {
            count: 1,
            first: at,
            last: at,
            example: (letter.partition(), letter.offset()),
            key: (by == By::Key).then(|| cells::cut_bytes(letter.key())),
        }
    }

    fn count(&mut self, letter: &StoredLetter) {
        self.count += 1;
        let at = letter.given_up_at();
        // Of two options `None` is the lesser one.
        self.first = self.first.into_iter().chain(at).min();
        self.last = self.last.max(at);
    }

    fn cells(&self, topic: &str) -> [Cell; 4] {
        let (partition, offset) = self.example;
        [
            Cell::count(self.count),
            cells::time(self.first),
            cells::time(self.last),
            Cell::text(cells::place(topic, partition, offset)),
        ]
    }
}
