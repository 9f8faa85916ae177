//! The letters that need nothing more. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// Which letters of a dead-letter topic were redriven, or resolved by hand: offsets by partition.
///
/// # Examples
/// ```
/// use keylane::redrive::ops::Handled;
///
/// let handled: Handled = [(0, 5, 7), (0, 8, 9), (1, 3, 3)].into_iter().collect();
/// assert!(handled.contains(0, 9) && !handled.contains(1, 4));
/// assert_eq!(handled.ranges().collect::<Vec<_>>(), [(0, 5, 9), (1, 3, 3)]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handled {
    /// First and last offsets, ascending, with gaps between them.
    partitions: BTreeMap<i32, Vec<(i64, i64)>>,
}

impl Handled {
    /// Whether the letter at this offset is among them.
    pub fn contains(&self, partition: i32, offset: i64) -> bool {
        let Some(ranges) = self.partitions.get(&partition) else {
            return false;
        };
        let behind = ranges.partition_point(|(first, _)| *first <= offset);
        behind > 0 && ranges[behind - 1].1 >= offset
    }

    /// The parts of this range that are not among them, by first and last offset.
    pub(super) fn without(&self, partition: i32, first: i64, last: i64) -> Vec<(i64, i64)> {
        let ranges = self
            .partitions
            .get(&partition)
            .map_or(&[][..], Vec::as_slice);
        let before = ranges.partition_point(|it| it.1 < first);
        let (mut parts, mut open) = (Vec::new(), first);
        for (start, end) in ranges[before..].iter().take_while(|it| it.0 <= last) {
            if open < *start {
                parts.push((open, start - 1));
            }
            open = end.saturating_add(1);
        }
        if open <= last {
            parts.push((open, last));
        }
        parts
    }

    /// How many of the offsets from `first` to before `end` are among them.
    pub(super) fn count_within(&self, partition: i32, first: i64, end: i64) -> u64 {
        let ranges = self
            .partitions
            .get(&partition)
            .map_or(&[][..], Vec::as_slice);
        let before = ranges.partition_point(|it| it.1 < first);
        let inside = ranges[before..].iter().take_while(|it| it.0 < end);
        let lengths = inside.map(|(start, last)| {
            let (start, end) = (first.max(*start), end.min(last.saturating_add(1)));
            u64::try_from(end.saturating_sub(start)).unwrap_or(0)
        });
        lengths.sum()
    }

    /// Partition, first and last offset of each range, ascending.
    pub fn ranges(&self) -> impl Iterator<Item = (i32, i64, i64)> + '_ {
        let partitions = self.partitions.iter();
        partitions.flat_map(|(partition, ranges)| {
            ranges
                .iter()
                .map(|(first, last)| (*partition, *first, *last))
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }
}

/// From partitions, first and last offsets in any order. A range that ends before it begins is
/// none.
impl FromIterator<(i32, i64, i64)> for Handled {
    fn from_iter<I: IntoIterator<Item = (i32, i64, i64)>>(ranges: I) -> Self {
        let mut handled = Self::default();
        handled.extend(ranges);
        handled
    }
}

/// As by [`from_iter`](FromIterator::from_iter), with what is there already.
impl Extend<(i32, i64, i64)> for Handled {
    fn extend<I: IntoIterator<Item = (i32, i64, i64)>>(&mut self, ranges: I) {
        let mut added = BTreeSet::new();
        for (partition, first, last) in ranges {
            if first <= last {
                let all = self.partitions.entry(partition).or_default();
                all.push((first, last));
                added.insert(partition);
            }
        }
        for partition in added {
            if let Some(ranges) = self.partitions.get_mut(&partition) {
                merge(ranges);
            }
        }
    }
}

fn merge(ranges: &mut Vec<(i64, i64)>) {
    ranges.sort_unstable();
    let mut kept = 0;
    for at in 1..ranges.len() {
        let (first, last) = ranges[at];
        if first <= ranges[kept].1.saturating_add(1) {
            ranges[kept].1 = ranges[kept].1.max(last);
        } else {
            kept += 1;
            ranges[kept] = (first, last);
        }
    }
    ranges.truncate(kept + 1);
    ranges.shrink_to_fit();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_has_the_offsets_that_were_put_in_and_no_others(
            ranges in proptest::collection::vec((0..3_i32, 0..60_i64, -2..9_i64), 0..40),
        ) {
            let ranges: Vec<_> = ranges.into_iter().map(|(at, first, more)| (at, first, first + more)).collect();
            let all = ranges.iter().flat_map(|(at, first, last)| (*first..=*last).map(move |it| (*at, it)));
            let all: BTreeSet<(i32, i64)> = all.collect();
            let mut handled = Handled::default();
            // In two parts, the second of which may overlap the first.
            handled.extend(ranges.iter().copied().take(20));
            handled.extend(ranges.iter().copied().skip(20));
            for partition in 0..3 {
                for offset in -1..80 {
                    prop_assert_eq!(handled.contains(partition, offset), all.contains(&(partition, offset)));
                }
                for first in -1..80 {
                    let end = first + (first * 7) % 30;
                    let within = all.range((partition, first)..(partition, end.max(first))).count();
                    prop_assert_eq!(handled.count_within(partition, first, end), within as u64);
                }
            }
            let kept: Vec<_> = handled.ranges().collect();
            for pair in kept.windows(2) {
                prop_assert!(pair[0].0 < pair[1].0 || pair[0].2 + 1 < pair[1].1, "{:?}", kept);
            }
            prop_assert_eq!(handled.is_empty(), all.is_empty());
        }
    }
}
