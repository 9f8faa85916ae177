//! What may be committed when records end out of order: how such consumers are usually written by
//! hand.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The lowest unfinished offset of each partition. Nothing is kept of what is finished above it.
pub(super) struct Watermarks {
    partitions: Box<[Mutex<Partition>]>,
}

#[derive(Default)]
struct Partition {
    /// The offset of the first entry.
    first: i64,
    /// Whether each record is finished, by offset from `first`.
    done: VecDeque<bool>,
    moved: bool,
}

impl Watermarks {
    pub(super) fn new(partitions: i32) -> Self {
        Self {
            partitions: (0..partitions).map(|_| Mutex::default()).collect(),
        }
    }

    /// A record was read. Offsets come without holes in these topics.
    pub(super) fn begin(&self, partition: i32, offset: i64) {
        let mut state = self.lock(partition);
        if state.done.is_empty() {
            state.first = offset;
        }
        state.done.push_back(false);
    }

    /// A record is finished.
    pub(super) fn end(&self, partition: i32, offset: i64) {
        let mut state = self.lock(partition);
        let index = usize::try_from(offset - state.first).unwrap_or(usize::MAX);
        if let Some(done) = state.done.get_mut(index) {
            *done = true;
        }
        while state.done.front() == Some(&true) {
            state.done.pop_front();
            state.first += 1;
            state.moved = true;
        }
    }

    /// The next offset to read of each partition where it has changed.
    pub(super) fn moved(&self) -> Vec<(i32, i64)> {
        let moved = |partition| {
            let mut state = self.lock(partition);
            std::mem::take(&mut state.moved).then_some((partition, state.first))
        };
        (0..self.partitions.len() as i32)
            .filter_map(moved)
            .collect()
    }

    fn lock(&self, partition: i32) -> MutexGuard<'_, Partition> {
        self.partitions[partition as usize]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watermark_waits_for_the_oldest() {
        let watermarks = Watermarks::new(2);
        (5..8).for_each(|offset| watermarks.begin(1, offset));
        watermarks.end(1, 6);
        assert_eq!(watermarks.moved(), []);
        watermarks.end(1, 5);
        assert_eq!(watermarks.moved(), [(1, 7)]);
        assert_eq!(watermarks.moved(), []);
        watermarks.end(1, 7);
        watermarks.begin(1, 8);
        assert_eq!(watermarks.moved(), [(1, 8)]);
    }
}
