//! What operators order for a partition, as it stands: keys that are paused, offsets that are
//! skipped.
//!
//! There are two sources. What the caller *directs* is declared as a whole, and comes from outside
//! of the process ([`Partition::direct`](super::Partition::direct)). What an operator orders of this
//! member alone is its *own*, and ends with the assignment: the next epoch of it
//! [inherits](super::Partition::inherit_own_orders) them. Both are in force, and neither takes the
//! other back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::offset::{LeaderEpoch, Offset};

/// The most keys of a partition that a member pauses by itself, and the most offsets that it is
/// still to skip by itself.
pub const MOST_OWN_ORDERS: usize = 1_000;
/// The most leader epochs of pending records that are told apart.
const MOST_EPOCHS: usize = 100;

/// Who ordered an act, and why: for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorNote {
    /// Who.
    pub by: Arc<str>,
    /// Why.
    pub why: Arc<str>,
}

impl OperatorNote {
    /// The note of this operator.
    pub fn new(by: impl Into<Arc<str>>, why: impl Into<Arc<str>>) -> Self {
        Self {
            by: by.into(),
            why: why.into(),
        }
    }
}

/// A record that is to be skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkipOrder {
    /// Who ordered it, and why.
    pub note: OperatorNote,
    /// The leader epoch of the record that is meant. At that offset, a record of another one is
    /// another record. `None` for any.
    pub under: Option<LeaderEpoch>,
}

impl From<OperatorNote> for SkipOrder {
    fn from(note: OperatorNote) -> Self {
        Self { note, under: None }
    }
}

/// Everything that is directed for one partition of one log.
///
/// The caller bounds it. It is about a log, not about a name: for a topic that was re-created it is
/// up to the caller to leave out what was about the former one. Where the partition sees that
/// the log was cut below a skip, the skip is void until it was left out once, or another order for
/// that offset took its place. So a caller may learn of the cut later.
///
/// # Examples
/// ```
/// use keylane_core::{Offset, OperatorNote, PartitionDirectives};
///
/// let mut directives = PartitionDirectives::default();
/// directives.paused_keys.insert(0x1f60_e652_ab9e_07d6);
/// directives.skips.insert(Offset::new(17), OperatorNote::new("ann", "INC-7").into());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionDirectives {
    /// Keys of which nothing starts, by the name that
    /// [`Partition::name_keys`](super::Partition::name_keys) sets.
    pub paused_keys: BTreeSet<u64>,
    /// Records that are settled without an attempt.
    pub skips: BTreeMap<Offset, SkipOrder>,
}

/// The orders of both sources.
#[derive(Default)]
pub(super) struct Directed {
    given: PartitionDirectives,
    own: PartitionDirectives,
    /// From which offset on records have which leader epoch.
    epochs: VecDeque<(Offset, LeaderEpoch)>,
    /// Skips that were given for records of a log that was cut. They are void for as long as the same
    /// orders go on being given: their source may learn of the cut later, or not at all.
    void: BTreeMap<Offset, SkipOrder>,
}

impl Directed {
    /// Replaces what is directed; `true` where that changes anything.
    pub(super) fn give(&mut self, mut directives: PartitionDirectives) -> bool {
        self.void.retain(|offset, order| {
            let is_same = directives.skips.get(offset) == Some(order);
            if is_same {
                directives.skips.remove(offset);
            }
            is_same
        });
        let changes = self.given != directives;
        self.given = directives;
        changes
    }

    pub(super) fn own(&mut self) -> &mut PartitionDirectives {
        &mut self.own
    }

    /// Whether this member pauses the key by itself, and whether it is directed to.
    pub(super) fn pauses_by_source(&self, key: u64) -> (bool, bool) {
        let is_given = self.given.paused_keys.contains(&key);
        (self.own.paused_keys.contains(&key), is_given)
    }

    pub(super) fn own_orders(&self) -> &PartitionDirectives {
        &self.own
    }

    pub(super) fn pauses_keys(&self) -> bool {
        !self.given.paused_keys.is_empty() || !self.own.paused_keys.is_empty()
    }

    pub(super) fn pauses(&self, key: u64) -> bool {
        let (is_own, is_given) = self.pauses_by_source(key);
        is_own || is_given
    }

    /// The records from `first` on have this leader epoch.
    pub(super) fn read_under(&mut self, epoch: LeaderEpoch, first: Offset) {
        while self.epochs.back().is_some_and(|(from, _)| *from >= first) {
            self.epochs.pop_back();
        }
        if self.epochs.len() >= MOST_EPOCHS {
            self.epochs.pop_front();
        }
        self.epochs.push_back((first, epoch));
    }

    /// Who skips the record that was read at this offset, if it is skipped.
    pub(super) fn skip_of(&self, offset: Offset) -> Option<&OperatorNote> {
        let given = self.given.skips.get(&offset);
        let own = self.own.skips.get(&offset);
        let order = given.filter(|it| self.is_about(it, offset)).or(own)?;
        Some(&order.note)
    }

    /// Whether the record that was read at this offset is the one that is meant. One whose leader
    /// epoch is not known may be another: it is not given up.
    fn is_about(&self, order: &SkipOrder, offset: Offset) -> bool {
        let read = self.epochs.iter().rev().find(|(from, _)| *from <= offset);
        let read = read.map(|(_, epoch)| *epoch);
        order.under.is_none_or(|under| read == Some(under))
    }

    /// The offsets that are directed to be skipped.
    pub(super) fn given_skips(&self) -> Vec<Offset> {
        let offsets = self.given.skips.keys().copied();
        offsets
            .filter(|offset| self.skip_of(*offset).is_some())
            .collect()
    }

    /// The offsets from here on stand for other records now.
    pub(super) fn log_was_cut(&mut self, from: Offset) {
        let cut = self.given.skips.split_off(&from);
        self.void.extend(cut);
        self.own.skips.split_off(&from);
    }
}
