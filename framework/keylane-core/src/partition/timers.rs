//! Records that wait for a moment.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use crate::time::Moment;

#[derive(Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Moment, u64, u32)>>,
    /// Breaks ties in the order in which timers were set, so that a run is repeatable and fair.
    set_so_far: u64,
}

impl Timers {
    pub(super) fn set(&mut self, moment: Moment, slot: u32) {
        self.set_so_far += 1;
        self.heap.push(Reverse((moment, self.set_so_far, slot)));
    }

    /// Takes the timers of these slots away, which are sorted. A walk over all of them.
    pub(super) fn cancel_all(&mut self, slots: &[u32]) {
        self.heap
            .retain(|Reverse((.., slot))| slots.binary_search(slot).is_err());
    }

    /// The same, with the moments of those that were set, by slot.
    pub(super) fn take_all(&mut self, slots: &[u32]) -> HashMap<u32, Moment> {
        let mut taken = HashMap::with_capacity(slots.len());
        self.heap.retain(|&Reverse((moment, _, slot))| {
            let stays = slots.binary_search(&slot).is_err();
            if !stays {
                taken.insert(slot, moment);
            }
            stays
        });
        taken
    }

    pub(super) fn next(&self) -> Option<Moment> {
        self.heap.peek().map(|Reverse((moment, ..))| *moment)
    }

    /// Takes out one slot whose moment has come.
    pub(super) fn take_due(&mut self, now: Moment) -> Option<u32> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((.., slot))| slot)
    }
}
