//! Which members run which revision.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::offset::Position;

/// How often a member writes an acknowledgement that has not changed.
pub const ACKNOWLEDGE_EVERY: Duration = Duration::from_secs(3_600);
/// Where the live members are not known, an acknowledgement that is older is one of a member that is
/// gone. Clocks may differ by an hour, and a write may fail once.
pub const FRESH_FOR: Duration = Duration::from_secs(3 * 3_600);
/// An acknowledgement that is older is taken out. That of a member which is there all the same is
/// written again.
pub const GONE_AFTER: Duration = Duration::from_secs(24 * 3_600);

/// The most acknowledgements that are kept: the oldest make room.
pub const MOST_ACKS: usize = 10_000;

/// What a member acknowledges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The revision that it runs.
    pub revision: Position,
    /// The group's name for it; `None` where it was in no group.
    pub member: Option<String>,
    /// The group that it is a member of; `None` where the writer did not say.
    pub group: Option<String>,
    /// The host that it runs on.
    pub host: String,
    /// When it was written, in milliseconds since the Unix epoch.
    pub at_millis: i64,
    /// How many records it refuses.
    pub refused: u64,
}

/// The acknowledgements in a control topic, by the members' names there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acks {
    by_name: BTreeMap<String, Ack>,
}

/// How far a revision has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// The members that run it, or a later one.
    pub applied: BTreeSet<String>,
    /// Those that have read it, and refuse records: what those order is not in force there.
    pub refusing: BTreeSet<String>,
    /// Those that run an earlier one.
    pub behind: BTreeSet<String>,
    /// How many live members have acknowledged nothing; 0 where the live ones are not known.
    pub silent: usize,
    /// Acknowledgements of members that are gone without taking them back: they do not count.
    pub stale: BTreeSet<String>,
}

impl Ack {
    /// Whether it is that old. One that is dated ahead is not: clocks differ.
    fn is_older_than(&self, age: Duration, now_millis: i64) -> bool {
        u128::try_from(now_millis.saturating_sub(self.at_millis))
            .is_ok_and(|it| it >= age.as_millis())
    }
}

impl Acks {
    /// Takes one acknowledgement in; `None` for one that was taken back.
    ///
    /// # Examples
    /// ```
    /// use keylane_core::Position;
    /// use keylane_core::control::{Ack, Acks};
    ///
    /// let mut acks = Acks::default();
    /// let ack = |member: &str| Ack {
    ///     revision: Position::new(7),
    ///     member: Some(member.to_owned()),
    ///     group: None,
    ///     host: "host".to_owned(),
    ///     at_millis: 0,
    ///     refused: 0,
    /// };
    /// acks.apply("one", Some(ack("id-1")));
    /// acks.apply("two", Some(ack("id-2")));
    /// let live = ["id-1".to_owned(), "id-3".to_owned()].into();
    /// let tally = acks.tally(Position::new(7), Some(&live), 0);
    /// assert_eq!((tally.applied.len(), tally.silent, tally.stale.len()), (1, 1, 1));
    /// ```
    pub fn apply(&mut self, name: &str, ack: Option<Ack>) {
        let Some(ack) = ack else {
            self.by_name.remove(name);
            return;
        };
        if self.by_name.len() >= MOST_ACKS && !self.by_name.contains_key(name) {
            let oldest = self.by_name.iter().min_by_key(|(_, ack)| ack.at_millis);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                self.by_name.remove(&oldest);
            }
        }
        self.by_name.insert(name.to_owned(), ack);
    }

    /// The acknowledgements in this group that the member `own` is to take out: nothing was written
    /// for [`GONE_AFTER`]. One member does that, the first of those that are there.
    pub fn gone<'a>(
        &'a self,
        own: &str,
        group: &str,
        now_millis: i64,
    ) -> impl Iterator<Item = &'a str> {
        let is_gone = move |ack: &Ack| ack.is_older_than(GONE_AFTER, now_millis);
        let of_group = move |ack: &Ack| ack.group.as_deref() == Some(group);
        let mut there = self.by_name.iter();
        let first = there.find(|(_, ack)| of_group(ack) && !is_gone(ack));
        let is_first = first.is_some_and(|(name, _)| name == own);
        let all = self.by_name.iter().filter(move |_| is_first);
        let gone: Vec<_> = all
            .filter(|(_, ack)| of_group(ack) && is_gone(ack))
            .collect();
        gone.into_iter().map(|(name, _)| &**name)
    }

    /// Whether this member's is there.
    pub fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// Each acknowledgement, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Ack)> {
        self.by_name.iter().map(|(name, ack)| (&**name, ack))
    }

    /// How far a revision has come. `live`: the group's names of its members, where they are known;
    /// otherwise an acknowledgement counts for [`FRESH_FOR`].
    pub fn tally(
        &self,
        revision: Position,
        live: Option<&BTreeSet<String>>,
        now_millis: i64,
    ) -> Tally {
        let mut tally = Tally::default();
        let mut heard = BTreeSet::new();
        for (name, ack) in &self.by_name {
            let member = ack.member.as_ref();
            let is_stale = match live {
                Some(live) => member.is_none_or(|it| !live.contains(it)),
                None => ack.is_older_than(FRESH_FOR, now_millis),
            };
            let set = match is_stale {
                true => &mut tally.stale,
                false if ack.revision < revision => &mut tally.behind,
                false if ack.refused > 0 => &mut tally.refusing,
                false => &mut tally.applied,
            };
            set.insert(name.clone());
            heard.extend(member.filter(|_| !is_stale));
        }
        tally.silent = live.map_or(0, |live| live.len().saturating_sub(heard.len()));
        tally
    }
}
