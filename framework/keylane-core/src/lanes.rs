//! Lanes: the queue of one key, run one record at a time.
//!
//! A lane is a chain of pending slots. Its head is the record that may run, and stays head until it
//! is settled. The map has only each lane's tail. A lane without records takes no memory.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};

/// No slot.
pub(crate) const NONE: u32 = u32::MAX;

#[derive(Default)]
pub(crate) struct Lanes {
    /// The last slot of each lane with a key.
    tails: HashMap<u64, u32, BuildHasherDefault<HashedAlready>>,
    /// The next slot in the same lane, by slot.
    behind: Vec<u32>,
}

/// Whether a record that joined its lane is at its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Joined {
    Head,
    /// Behind this slot.
    Behind(u32),
}

impl Lanes {
    /// Puts a slot at the end of its key's lane. A null key (`None`) is a lane of its own.
    pub(crate) fn join(&mut self, key: Option<u64>, slot: u32) -> Joined {
        let index = slot as usize;
        if index >= self.behind.len() {
            self.behind.resize(index + 1, NONE);
        }
        self.behind[index] = NONE;
        let Some(key) = key else { return Joined::Head };
        match self.tails.entry(key) {
            Entry::Vacant(lane) => {
                lane.insert(slot);
                Joined::Head
            }
            Entry::Occupied(mut lane) => {
                let ahead = lane.insert(slot);
                self.behind[ahead as usize] = slot;
                Joined::Behind(ahead)
            }
        }
    }

    /// Whether a record that joins the lane of this key is at its head.
    pub(crate) fn is_empty(&self, key: Option<u64>) -> bool {
        key.is_none_or(|key| !self.tails.contains_key(&key))
    }

    /// The one behind `slot` in its lane.
    pub(crate) fn behind(&self, slot: u32) -> Option<u32> {
        Some(self.behind[slot as usize]).filter(|&behind| behind != NONE)
    }

    /// Takes the head out of its lane and returns the new head's slot.
    pub(crate) fn leave(&mut self, key: Option<u64>, head: u32) -> Option<u32> {
        let behind = std::mem::replace(&mut self.behind[head as usize], NONE);
        if behind != NONE {
            return Some(behind);
        }
        if let Some(key) = key {
            let tail = self.tails.remove(&key);
            debug_assert_eq!(tail, Some(head), "the last of a lane is its tail");
        }
        None
    }

    /// Takes a slot that is not the head out of its lane. A walk over all slots.
    pub(crate) fn remove(&mut self, key: Option<u64>, slot: u32) {
        let behind = std::mem::replace(&mut self.behind[slot as usize], NONE);
        let ahead = self.behind.iter().position(|&behind| behind == slot);
        debug_assert!(ahead.is_some(), "it is behind another");
        let (Some(ahead), Some(key)) = (ahead, key) else {
            return;
        };
        self.behind[ahead] = behind;
        if behind == NONE {
            self.tails.insert(key, ahead as u32);
        }
    }
}

/// Passes a number through: keys arrive as good hashes.
#[derive(Clone, Default)]
pub(crate) struct HashedAlready(u64);

impl Hasher for HashedAlready {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    /// Not used for `u64`; here so that any other key still gives a usable, if poor, hash.
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn null_keys_never_wait_for_each_other() {
        let mut lanes = Lanes::default();
        assert_eq!(lanes.join(None, 0), Joined::Head);
        assert_eq!(lanes.join(None, 1), Joined::Head);
        assert_eq!(lanes.leave(None, 0), None);
    }

    #[test]
    fn an_empty_lane_takes_no_memory() {
        let mut lanes = Lanes::default();
        lanes.join(Some(1), 0);
        lanes.leave(Some(1), 0);
        assert!(lanes.tails.is_empty());
    }

    proptest! {
        #[test]
        fn lanes_are_queues_out_of_which_any_may_be_taken(
            steps in proptest::collection::vec((0..3, 0_u64..4, any::<prop::sample::Index>()), 0..200)
        ) {
            let mut lanes = Lanes::default();
            let mut model: BTreeMap<u64, VecDeque<u32>> = BTreeMap::new();
            let mut slot = 0;
            for (step, key, any) in steps {
                let queue = model.entry(key).or_default();
                if step == 2 && queue.len() > 1 {
                    let taken = queue.remove(1 + any.index(queue.len() - 1));
                    lanes.remove(Some(key), taken.expect("it is in the queue"));
                } else if step == 0 {
                    let expected = queue.back().map_or(Joined::Head, |&ahead| Joined::Behind(ahead));
                    prop_assert_eq!(lanes.join(Some(key), slot), expected);
                    queue.push_back(slot);
                    slot += 1;
                } else if let Some(head) = queue.pop_front() {
                    prop_assert_eq!(lanes.leave(Some(key), head), queue.front().copied());
                }
            }
        }
    }
}
