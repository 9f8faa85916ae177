//! Which offsets above a position are settled.

use std::collections::VecDeque;

use crate::offset::{Offset, Position};

/// A run of settled offsets, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettledRange {
    /// The lowest settled offset of the run.
    pub first: Offset,
    /// The highest settled offset of the run.
    pub last: Offset,
}

/// The offsets above a committed position that a previous owner had settled: ascending, disjoint
/// ranges.
///
/// It comes out of a commit's metadata ([`decode`](crate::commit_map::decode)) and is used up as
/// records are delivered.
///
/// # Examples
/// ```
/// use keylane_core::{Offset, SettledMap, SettledRange};
///
/// let mut map = SettledMap::new();
/// assert!(map.append(SettledRange { first: Offset::new(41), last: Offset::new(43) }));
/// assert!(map.contains(Offset::new(42)) && !map.contains(Offset::new(44)));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettledMap {
    ranges: VecDeque<SettledRange>,
}

impl SettledMap {
    /// A map that names nothing.
    pub const fn new() -> Self {
        Self {
            ranges: VecDeque::new(),
        }
    }

    /// Whether it names nothing.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The ranges, ascending.
    pub fn ranges(&self) -> impl Iterator<Item = SettledRange> + '_ {
        self.ranges.iter().copied()
    }

    /// Adds a range above all others; one that touches the last is joined with it. `false`, and no
    /// change, where it does not lie above or is empty.
    pub fn append(&mut self, range: SettledRange) -> bool {
        if range.first > range.last {
            return false;
        }
        match self.ranges.back_mut() {
            Some(back) if range.first <= back.last => return false,
            Some(back) if back.last.next() == Position::before(range.first) => {
                back.last = range.last
            }
            _ => self.ranges.push_back(range),
        }
        true
    }

    /// Whether it names `offset`. Looks through the ranges in O(log n).
    pub fn contains(&self, offset: Offset) -> bool {
        let after = self.ranges.partition_point(|range| range.last < offset);
        self.ranges
            .get(after)
            .is_some_and(|range| range.first <= offset)
    }

    /// Whether it names `offset`, for offsets that only ascend: forgets everything up to it.
    /// Amortised O(1).
    pub(crate) fn take(&mut self, offset: Offset) -> bool {
        while self.ranges.front().is_some_and(|range| range.last < offset) {
            self.ranges.pop_front();
        }
        let Some(front) = self.ranges.front_mut() else {
            return false;
        };
        if front.first > offset {
            return false;
        }
        if front.last == offset {
            self.ranges.pop_front();
        } else {
            front.first = Offset::new(offset.get() + 1);
        }
        true
    }

    pub(crate) fn clear(&mut self) {
        self.ranges = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: i64, last: i64) -> SettledRange {
        SettledRange {
            first: Offset::new(first),
            last: Offset::new(last),
        }
    }

    #[test]
    fn ranges_that_touch_are_joined_and_others_are_refused() {
        let mut map = SettledMap::new();
        assert!(map.append(range(3, 5)));
        assert!(map.append(range(6, 6)));
        assert!(map.append(range(9, 10)));
        assert!(!map.append(range(10, 12)), "overlaps");
        assert!(!map.append(range(14, 13)), "empty");
        assert_eq!(
            map.ranges().collect::<Vec<_>>(),
            [range(3, 6), range(9, 10)]
        );
        for offset in 0..15 {
            assert_eq!(
                map.contains(Offset::new(offset)),
                [3, 4, 5, 6, 9, 10].contains(&offset),
                "{offset}"
            );
        }
    }

    #[test]
    fn taking_forgets_what_lies_below() {
        let mut map = SettledMap::new();
        map.append(range(3, 6));
        map.append(range(9, 10));
        assert!(!map.take(Offset::new(2)));
        assert!(map.take(Offset::new(4)));
        assert_eq!(
            map.ranges().collect::<Vec<_>>(),
            [range(5, 6), range(9, 10)]
        );
        assert!(!map.take(Offset::new(8)));
        assert!(map.take(Offset::new(9)));
        assert!(map.take(Offset::new(10)));
        assert!(map.is_empty());
    }
}
