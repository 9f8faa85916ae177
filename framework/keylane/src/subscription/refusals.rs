//! What the brokers forbid at present, so that each sign of the opposite ends what it speaks against, and no more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::status::{Trouble, TroubleKind};

/// Partitions that may not be read, and topics that may not be written.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    /// Looked at for every batch and every write; the rest only when it is set.
    any: AtomicBool,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Bounded by the assignment.
    unreadable: BTreeSet<(String, i32)>,
    /// By topic: the retry and the dead-letter topic at most.
    writes: BTreeMap<String, Trouble>,
}

impl Refusals {
    /// A partition may not be read.
    pub(crate) fn unreadable(&self, topic: &str, partition: i32) {
        let mut known = self.known();
        known.unreadable.insert((topic.to_owned(), partition));
        self.update(&known);
    }

    /// A record of this partition has come. True where it was the last one that could not be read.
    pub(crate) fn readable(&self, topic: &str, partition: i32) -> bool {
        if !self.any.load(Ordering::Relaxed) {
            return false;
        }
        let mut known = self.known();
        let was_last = known.unreadable.remove(&(topic.to_owned(), partition)) && known.unreadable.is_empty();
        self.update(&known);
        was_last
    }

    pub(crate) fn has_unreadable(&self) -> bool {
        self.any.load(Ordering::Relaxed) && !self.known().unreadable.is_empty()
    }

    /// A new assignment: what may still not be read is reported anew.
    pub(crate) fn forget_unreadable(&self) {
        let mut known = self.known();
        known.unreadable.clear();
        self.update(&known);
    }

    /// A write was refused for want of permission or credentials. True where it is the topic's first.
    pub(crate) fn write_refused(&self, topic: &str, kind: TroubleKind, message: String) -> bool {
        let mut known = self.known();
        let since = known.writes.get(topic).map(|trouble| trouble.since);
        let trouble = Trouble { kind, message, since: since.unwrap_or_else(SystemTime::now) };
        known.writes.insert(topic.to_owned(), trouble);
        self.update(&known);
        since.is_none()
    }

    /// A write was acknowledged. True where one was refused before.
    pub(crate) fn written(&self, topic: &str) -> bool {
        if !self.any.load(Ordering::Relaxed) {
            return false;
        }
        let mut known = self.known();
        let was_refused = known.writes.remove(topic).is_some();
        self.update(&known);
        was_refused
    }

    /// The trouble with writes, if there is any.
    pub(super) fn write_trouble(&self) -> Option<Trouble> {
        self.known().writes.values().next().cloned()
    }

    fn update(&self, known: &Known) {
        self.any.store(!known.unreadable.is_empty() || !known.writes.is_empty(), Ordering::Relaxed);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_unreadable_partition_ends_it_and_others_do_not() {
        let refusals = Refusals::default();
        assert!(!refusals.readable("a", 0));
        refusals.unreadable("a", 0);
        refusals.unreadable("a", 1);
        assert!(!refusals.readable("b", 0) && !refusals.readable("a", 0));
        assert!(refusals.has_unreadable() && refusals.readable("a", 1));
        assert!(!refusals.has_unreadable() && !refusals.readable("a", 1));
    }

    #[test]
    fn a_refused_write_is_trouble_until_one_to_the_same_topic_is_acknowledged() {
        let refusals = Refusals::default();
        assert!(!refusals.written("dead"));
        assert!(refusals.write_refused("dead", TroubleKind::Authorization, "no".into()));
        assert!(!refusals.write_refused("dead", TroubleKind::Authorization, "still no".into()));
        assert!(!refusals.written("retry"));
        assert_eq!(refusals.write_trouble().unwrap().message, "still no");
        assert!(refusals.written("dead"));
        assert_eq!(refusals.write_trouble(), None);
    }
}
