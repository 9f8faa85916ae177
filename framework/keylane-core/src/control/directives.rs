//! What holds by the control topic.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use super::{Content, ControlKey, Order, PauseScope};
use crate::log_id::LogId;
use crate::offset::{Offset, Position};
use crate::partition::{OperatorNote, PartitionDirectives, SkipOrder};

/// The most pauses that are kept, the most orders about keys and records, and the most refused
/// records. What is more is refused; more pauses than that pause everything.
pub const MOST_ENTRIES: usize = 10_000;

/// What holds for a pause that cannot be read: to start is no guess to make.
static UNREADABLE: LazyLock<Order> = LazyLock::new(|| Order {
    why: "its record cannot be read by this version".to_owned(),
    ..Order::default()
});
/// What holds where pauses were left out.
static TOO_MANY: LazyLock<Order> = LazyLock::new(|| Order {
    why: format!("there are more than {MOST_ENTRIES} pauses"),
    ..Order::default()
});

/// What operators have ordered.
///
/// # Examples
/// ```
/// use keylane_core::Offset;
/// use keylane_core::control::{Content, Directives, Order};
///
/// let mut directives = Directives::default();
/// let order = Order { by: "ann".to_owned(), until_millis: Some(1_000), ..Order::default() };
/// directives.apply(Offset::new(4), "pause/parking-events", Content::Order(order));
/// assert!(directives.pause_of("parking-events", 0, 999).is_some());
/// assert!(directives.pause_of("parking-events", 0, 1_000).is_none(), "it has ended");
/// assert_eq!(directives.revision().get(), 5);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directives {
    revision: Position,
    pauses: BTreeMap<PauseScope, Order>,
    keys: BTreeMap<(String, u64), Order>,
    skips: BTreeMap<(String, i32, Offset), Order>,
    refused: BTreeMap<ControlKey, Refusal>,
    left_out: u64,
    leaves_out_pauses: bool,
    has_room_again: bool,
    logs_have_ids: bool,
}

/// Why a skip is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipEnd {
    /// The group's commit is behind its record.
    Committed,
    /// The log that it is about is gone: it is void.
    LogGone,
}

/// What became of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It counts.
    Taken,
    /// It is of another kind: an acknowledgement of a member, or a setting.
    Other,
    /// This version has no such key.
    UnknownKey,
    /// It is refused, and what held before holds on. Without that, a pause holds as one.
    Refused(Refusal),
}

/// Why a record is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its version is newer than the reader's.
    Newer(u64),
    /// It cannot be read.
    Invalid(String),
    /// There are [`MOST_ENTRIES`] already.
    TooMany,
    /// It is a skip that does not say which log and which leader epoch its record is of: it would
    /// give up any other record that takes the offset after a cut.
    Vague,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newer(version) => write!(f, "its version {version} is newer than this member's"),
            Self::Invalid(reason) => write!(f, "it cannot be read: {reason}"),
            Self::TooMany => write!(f, "there are {MOST_ENTRIES} others already"),
            Self::Vague => f.write_str(
                "it has no `log` or no `leader_epoch`, and would hold for whatever record takes this offset; write it \
                 by `keylane skip`, which fills both in",
            ),
        }
    }
}

impl Default for Directives {
    fn default() -> Self {
        Self {
            revision: Position::new(0),
            pauses: BTreeMap::new(),
            keys: BTreeMap::new(),
            skips: BTreeMap::new(),
            refused: BTreeMap::new(),
            left_out: 0,
            leaves_out_pauses: false,
            has_room_again: false,
            logs_have_ids: true,
        }
    }
}

impl Directives {
    /// Of a cluster whose topics have no ids: a skip need not name one, and holds for a re-created
    /// topic too.
    pub fn without_log_ids() -> Self {
        Self {
            logs_have_ids: false,
            ..Self::default()
        }
    }

    /// Takes one record in. They come in the order of the log.
    pub fn apply(&mut self, offset: Offset, key: &str, content: Content) -> Applied {
        let key = match ControlKey::parse(key) {
            // Each acknowledgement would be a new revision to acknowledge.
            Some(ControlKey::Ack(_)) => return Applied::Other,
            parsed => parsed,
        };
        self.revision = self.revision.max(offset.next());
        let key = match key {
            Some(ControlKey::Settings) => return Applied::Other,
            Some(key) => key,
            None => return Applied::UnknownKey,
        };
        let refusal = match content {
            Content::Nothing => {
                self.remove(&key);
                return Applied::Taken;
            }
            Content::Order(order) if self.is_vague(&key, &order) => {
                // An earlier order is about another record than the one that is meant now.
                self.remove(&key);
                Refusal::Vague
            }
            Content::Order(_) if !self.has_room(&key) => Refusal::TooMany,
            Content::Order(order) => {
                let was_refused = self.refused.remove(&key).is_some();
                self.has_room_again |= was_refused && self.left_out > 0;
                self.insert(key, order);
                return Applied::Taken;
            }
            Content::Newer(version) => Refusal::Newer(version),
            Content::Invalid(reason) => Refusal::Invalid(reason),
        };
        let is_kept = refusal != Refusal::TooMany
            && (self.refused.contains_key(&key) || self.refused.len() < MOST_ENTRIES);
        if is_kept {
            self.refused.insert(key, refusal.clone());
        } else {
            self.left_out += 1;
            self.leaves_out_pauses |= matches!(key, ControlKey::Pause(_));
        }
        Applied::Refused(refusal)
    }

    /// The position behind the last record that is no acknowledgement: what members acknowledge.
    pub fn revision(&self) -> Position {
        self.revision
    }

    /// The widest pause that is in force for a partition.
    pub fn pause_of(
        &self,
        topic: &str,
        partition: i32,
        now_millis: i64,
    ) -> Option<(&PauseScope, &Order)> {
        if self.leaves_out_pauses {
            return Some((&PauseScope::Subscription, &TOO_MANY));
        }
        if self.pauses.is_empty() && self.refused.is_empty() {
            return None;
        }
        let scopes = [
            PauseScope::Subscription,
            PauseScope::Topic(topic.to_owned()),
            PauseScope::Partition(topic.to_owned(), partition),
        ];
        scopes.into_iter().find_map(|scope| {
            let known = self.pauses.get_key_value(&scope);
            let in_force = known.filter(|(_, order)| order.is_in_force(now_millis));
            in_force.or_else(|| {
                let refused = self.refused.get_key_value(&ControlKey::Pause(scope));
                match refused?.0 {
                    ControlKey::Pause(scope) => Some((scope, &*UNREADABLE)),
                    _ => None,
                }
            })
        })
    }

    /// What is directed for a partition of this log, besides a pause of all of it.
    pub fn of(
        &self,
        topic: &str,
        partition: i32,
        log: Option<LogId>,
        now_millis: i64,
    ) -> PartitionDirectives {
        if self.keys.is_empty() && self.skips.is_empty() && self.refused.is_empty() {
            return PartitionDirectives::default();
        }
        let note = |order: &Order| OperatorNote {
            by: order.by.as_str().into(),
            why: order.why.as_str().into(),
        };
        let keys = self.paused_keys(topic, now_millis);
        let skips = self.skips(topic, partition, log, now_millis);
        PartitionDirectives {
            paused_keys: keys.map(|(hash, _)| hash).collect(),
            skips: skips
                .map(|(offset, order)| {
                    let (note, under) = (note(order), order.leader_epoch);
                    (offset, SkipOrder { note, under })
                })
                .collect(),
        }
    }

    /// The hashes of keys of a topic that are paused.
    pub fn paused_keys(&self, topic: &str, now_millis: i64) -> impl Iterator<Item = (u64, &Order)> {
        let from = (topic.to_owned(), 0)..=(topic.to_owned(), u64::MAX);
        let known = self
            .keys
            .range(from)
            .filter(move |(_, order)| order.is_in_force(now_millis))
            .map(|((_, hash), order)| (*hash, order));
        let [first, last] = [0, u64::MAX].map(|key_hash| ControlKey::PauseKey {
            topic: topic.to_owned(),
            key_hash,
        });
        let refused = self.refused.range(first..=last);
        known.chain(refused.filter_map(|(key, _)| match key {
            ControlKey::PauseKey { key_hash, .. } => Some((*key_hash, &*UNREADABLE)),
            _ => None,
        }))
    }

    /// The records of a partition that are to be skipped. An order that names another log is void.
    pub fn skips(
        &self,
        topic: &str,
        partition: i32,
        log: Option<LogId>,
        now_millis: i64,
    ) -> impl Iterator<Item = (Offset, &Order)> {
        let [first, last] = [i64::MIN, i64::MAX].map(Offset::new);
        let from = (topic.to_owned(), partition, first)..=(topic.to_owned(), partition, last);
        self.skips
            .range(from)
            .filter(move |(_, order)| order.is_about(log) && order.is_in_force(now_millis))
            .map(|((_, _, offset), order)| (*offset, order))
    }

    /// The first skip of this partition that names a log: while the partition's own is not known,
    /// it is not known whether its records may be attempted.
    pub fn needs_log(&self, topic: &str, partition: i32, now_millis: i64) -> Option<Offset> {
        if self.skips.is_empty() {
            return None;
        }
        let [first, last] = [i64::MIN, i64::MAX].map(Offset::new);
        let all = (topic.to_owned(), partition, first)..=(topic.to_owned(), partition, last);
        let mut skips = self.skips.range(all);
        let found = skips.find(|(_, it)| it.log.is_some() && it.is_in_force(now_millis));
        found.map(|((_, _, offset), _)| *offset)
    }

    /// The partitions that have skips, once for each skip.
    pub fn skip_places(&self) -> impl Iterator<Item = (&str, i32)> {
        self.skips
            .keys()
            .map(|(topic, partition, _)| (&**topic, *partition))
    }

    /// When the next order ends by itself, in milliseconds since the Unix epoch.
    pub fn next_deadline(&self, now_millis: i64) -> Option<i64> {
        let orders = self.orders().filter_map(|(_, order)| order.until_millis);
        orders.filter(|until| *until > now_millis).min()
    }

    /// The skips whose orders are of no more use: the commit is behind their record, or their log is
    /// gone. `committed` gives the log of a partition and what is committed for it, where this
    /// member has them; `is_gone` says of a topic whether another log than this one is there.
    pub fn done_skips(
        &self,
        committed: impl Fn(&str, i32) -> Option<(Option<LogId>, Position)>,
        is_gone: impl Fn(&str, LogId) -> bool,
    ) -> Vec<(ControlKey, SkipEnd)> {
        let end_of = |(topic, partition, offset): &(String, i32, Offset), order: &Order| {
            if order.log.is_some_and(|log| is_gone(topic, log)) {
                return Some(SkipEnd::LogGone);
            }
            let (log, position) = committed(topic, *partition)?;
            let is_behind = order.is_about(log) && !position.covers(*offset);
            is_behind.then_some(SkipEnd::Committed)
        };
        let skips = self.skips.iter();
        let done = skips.filter_map(|(place, it)| Some((skip_key(place), end_of(place, it)?)));
        done.collect()
    }

    /// Every order, also such as have ended by themselves.
    pub fn orders(&self) -> impl Iterator<Item = (ControlKey, &Order)> {
        let pauses = self.pauses.iter();
        let keys = self.keys.iter().map(|((topic, key_hash), order)| {
            let (topic, key_hash) = (topic.clone(), *key_hash);
            (ControlKey::PauseKey { topic, key_hash }, order)
        });
        let skips = self.skips.iter();
        pauses
            .map(|(scope, order)| (ControlKey::Pause(scope.clone()), order))
            .chain(keys)
            .chain(skips.map(|(place, order)| (skip_key(place), order)))
    }

    /// The records that are refused.
    pub fn refused(&self) -> impl Iterator<Item = (&ControlKey, &Refusal)> {
        self.refused.iter()
    }

    /// How many records were refused for want of room, since the fold began.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Whether a record that was left out would have room now: the fold is to begin again.
    pub fn is_to_be_folded_again(&self) -> bool {
        self.has_room_again
    }

    fn is_vague(&self, key: &ControlKey, order: &Order) -> bool {
        let lacks_log = self.logs_have_ids && order.log.is_none();
        matches!(key, ControlKey::Skip { .. }) && (lacks_log || order.leader_epoch.is_none())
    }

    fn has_room(&self, key: &ControlKey) -> bool {
        let there = match key {
            ControlKey::Pause(_) => self.pauses.len(),
            _ => self.keys.len() + self.skips.len(),
        };
        there < MOST_ENTRIES || self.has(key)
    }

    fn has(&self, key: &ControlKey) -> bool {
        match key {
            ControlKey::Pause(scope) => self.pauses.contains_key(scope),
            ControlKey::PauseKey { topic, key_hash } => {
                self.keys.contains_key(&(topic.clone(), *key_hash))
            }
            ControlKey::Skip {
                topic,
                partition,
                offset,
            } => self
                .skips
                .contains_key(&(topic.clone(), *partition, *offset)),
            ControlKey::Ack(_) | ControlKey::Settings => false,
        }
    }

    fn insert(&mut self, key: ControlKey, order: Order) {
        match key {
            ControlKey::Pause(scope) => drop(self.pauses.insert(scope, order)),
            ControlKey::PauseKey { topic, key_hash } => {
                self.keys.insert((topic, key_hash), order);
            }
            ControlKey::Skip {
                topic,
                partition,
                offset,
            } => drop(self.skips.insert((topic, partition, offset), order)),
            ControlKey::Ack(_) | ControlKey::Settings => {}
        }
    }

    fn remove(&mut self, key: &ControlKey) {
        self.refused.remove(key);
        match key {
            ControlKey::Pause(scope) => drop(self.pauses.remove(scope)),
            ControlKey::PauseKey { topic, key_hash } => {
                self.keys.remove(&(topic.clone(), *key_hash));
            }
            ControlKey::Skip {
                topic,
                partition,
                offset,
            } => drop(self.skips.remove(&(topic.clone(), *partition, *offset))),
            ControlKey::Ack(_) | ControlKey::Settings => {}
        }
        // What was left out may have room now, or is what was taken back.
        self.has_room_again |= self.left_out > 0;
    }
}

fn skip_key((topic, partition, offset): &(String, i32, Offset)) -> ControlKey {
    ControlKey::Skip {
        topic: topic.clone(),
        partition: *partition,
        offset: *offset,
    }
}
