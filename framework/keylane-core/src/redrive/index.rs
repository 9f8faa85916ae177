//! The letters of a redrive, and the turns that they get.

use std::collections::BTreeMap;
use std::sync::Arc;

use thiserror::Error;

use super::order::{Order, Turn};
use crate::offset::Offset;

/// A letter that the task is to copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter<'a> {
    /// The partition of the dead-letter topic.
    pub partition: i32,
    /// The offset there.
    pub offset: Offset,
    /// A hash of its key; `None` where it has no key, and so no order.
    pub key: Option<u64>,
    /// Where its record was read first, where it says so.
    pub origin: Option<LetterOrigin<'a>>,
    /// The topic that its copy goes to, by a number of the caller's.
    pub target: u16,
}

/// Where a letter's record was read first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LetterOrigin<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition there.
    pub partition: i32,
    /// The offset there.
    pub offset: i64,
}

/// How much an index holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexLimits {
    /// Letters at most. Default: 1,000,000, which is 64 MB.
    pub letters: u32,
    /// Origin topics at most. Default: 10,000.
    pub topics: u32,
}

impl Default for IndexLimits {
    fn default() -> Self {
        Self {
            letters: 1_000_000,
            topics: 10_000,
        }
    }
}

/// More letters match than an index holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TooMany {
    /// Too many letters.
    #[error(
        "more than {0} dead letters match; narrow the filter, for example by a range of time or offsets, and redrive \
         one part after another, the oldest first"
    )]
    Letters(u32),
    /// Too many origin topics.
    #[error(
        "the dead letters that match come from more than {0} topics; narrow the filter, for example by group or time"
    )]
    Topics(u32),
}

/// The letters that match, as they are read in the first pass.
///
/// # Examples
/// ```
/// use keylane_core::Offset;
/// use keylane_core::redrive::{Index, IndexLimits, Letter};
///
/// let mut index = Index::new(IndexLimits { letters: 1, ..IndexLimits::default() });
/// let letter = |offset| Letter { partition: 0, offset: Offset::new(offset), key: Some(7), origin: None, target: 0 };
/// assert!(index.add(&letter(3)).is_ok());
/// assert!(index.add(&letter(4)).unwrap_err().to_string().starts_with("more than 1 dead letters match"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Index {
    limits: IndexLimits,
    entries: Vec<Entry>,
    topics: BTreeMap<Arc<str>, u32>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    partition: i32,
    origin_partition: i32,
    offset: i64,
    origin_offset: i64,
    key: u64,
    /// The number of the topic's name; [`NO_ORIGIN`] is none.
    origin_topic: u32,
    target: u16,
    has_key: bool,
}

const NO_ORIGIN: u32 = u32::MAX;

impl Index {
    /// An entry, its turn, and two indexes to sort by.
    pub const BYTES_PER_LETTER: usize = size_of::<Entry>() + size_of::<Turn>() + 2 * 4;

    /// An empty one.
    pub fn new(limits: IndexLimits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Adds a letter. Partitions may be read in any order, and each letter is added once.
    ///
    /// # Errors
    /// [`TooMany`], which names the fix, where it holds no more.
    pub fn add(&mut self, letter: &Letter<'_>) -> Result<(), TooMany> {
        if self.entries.len() >= self.limits.letters as usize {
            return Err(TooMany::Letters(self.limits.letters));
        }
        let origin_topic = match letter.origin {
            Some(origin) => self.topic(origin.topic)?,
            None => NO_ORIGIN,
        };
        self.entries.push(Entry {
            partition: letter.partition,
            offset: letter.offset.get(),
            key: letter.key.unwrap_or(0),
            has_key: letter.key.is_some(),
            target: letter.target,
            origin_topic,
            origin_partition: letter.origin.map_or(0, |origin| origin.partition),
            origin_offset: letter.origin.map_or(0, |origin| origin.offset),
        });
        Ok(())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many copies go to each topic.
    pub fn targets(&self) -> BTreeMap<u16, u64> {
        let mut targets = BTreeMap::new();
        for entry in &self.entries {
            *targets.entry(entry.target).or_default() += 1;
        }
        targets
    }

    fn topic(&mut self, name: &str) -> Result<u32, TooMany> {
        if let Some(number) = self.topics.get(name) {
            return Ok(*number);
        }
        let number = u32::try_from(self.topics.len()).unwrap_or(u32::MAX);
        if number >= self.limits.topics {
            return Err(TooMany::Topics(self.limits.topics));
        }
        self.topics.insert(name.into(), number);
        Ok(number)
    }

    /// Leaves out the letters that are not to be copied after all, by partition and offset.
    pub fn retain(&mut self, mut keeps: impl FnMut(i32, Offset) -> bool) {
        self.entries
            .retain(|entry| keeps(entry.partition, Offset::new(entry.offset)));
    }

    /// Sorts the letters by their place. Of a key, the places of the letters of one origin partition
    /// go to these letters in the order of their origins. Letters without an origin keep their places.
    pub fn into_order(self) -> Order {
        self.into_order_and_last_turns(u64::MAX).0
    }

    /// The same, and for each target the number of the last turn before `end` whose copy goes there:
    /// by then a task is done with the target. Turns count from 0.
    ///
    /// # Examples
    /// ```
    /// use keylane_core::Offset;
    /// use keylane_core::redrive::{Index, IndexLimits, Letter};
    ///
    /// let mut index = Index::new(IndexLimits::default());
    /// for (offset, target) in [(3, 0), (4, 1), (5, 0), (6, 1)] {
    ///     index.add(&Letter { partition: 0, offset: Offset::new(offset), key: None, origin: None, target })?;
    /// }
    /// let (_, last) = index.into_order_and_last_turns(3);
    /// assert_eq!(last, [(0, 2), (1, 1)].into());
    /// # Ok::<(), keylane_core::redrive::TooMany>(())
    /// ```
    pub fn into_order_and_last_turns(self, end: u64) -> (Order, BTreeMap<u16, u64>) {
        let Self { mut entries, .. } = self;
        entries.sort_unstable_by_key(|entry| (entry.partition, entry.offset));
        entries.dedup_by_key(|entry| (entry.partition, entry.offset));

        let turn = |entry: &Entry| Turn {
            partition: entry.partition,
            offset: Offset::new(entry.offset),
        };
        let mut turns: Vec<Turn> = entries.iter().map(turn).collect();
        let mut last_turns = BTreeMap::new();
        let mut goes_to = |entry: &Entry, turn: u64| {
            if turn < end {
                let last = last_turns.entry(entry.target).or_insert(turn);
                *last = turn.max(*last);
            }
        };
        for (entry, turn) in entries.iter().zip(0..).filter(|(it, _)| !it.has_key) {
            goes_to(entry, turn);
        }
        let of = |at: u32| &entries[at as usize];
        let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        let mut keyed: Vec<u32> = (0..count).filter(|at| of(*at).has_key).collect();
        keyed.sort_unstable_by_key(|at| (of(*at).sequence(), *at));
        let mut by_origin = Vec::new();
        for places in keyed.chunk_by(|a, b| of(*a).sequence() == of(*b).sequence()) {
            by_origin.clear();
            by_origin.extend_from_slice(places);
            by_origin.sort_by_key(|at| of(*at).origin_offset);
            for (place, letter) in places.iter().zip(&by_origin) {
                turns[*place as usize] = turn(of(*letter));
                goes_to(of(*letter), u64::from(*place));
            }
        }
        (Order::new(turns), last_turns)
    }
}

impl Entry {
    /// What it is ordered with: the records of a key in a partition, and no others.
    fn sequence(&self) -> (u64, u32, i32) {
        (self.key, self.origin_topic, self.origin_partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(offset: i64, key: Option<u64>, origin: Option<(&str, i64)>) -> Letter<'_> {
        Letter {
            partition: 0,
            offset: Offset::new(offset),
            key,
            origin: origin.map(|(topic, offset)| LetterOrigin {
                topic,
                partition: 0,
                offset,
            }),
            target: 0,
        }
    }

    fn order(letters: &[Letter<'_>]) -> Vec<i64> {
        let mut index = Index::new(IndexLimits::default());
        for letter in letters {
            index.add(letter).unwrap();
        }
        let order = index.into_order();
        order.turns().iter().map(|turn| turn.offset.get()).collect()
    }

    #[test]
    fn the_places_of_a_key_and_an_origin_go_to_their_letters_in_the_order_of_their_offsets() {
        let mut letters = [
            letter(10, Some(1), Some(("b", 5))),
            letter(11, Some(2), Some(("b", 9))),
            letter(12, Some(1), None),
            letter(13, Some(1), Some(("b", 3))),
            letter(14, None, Some(("b", 1))),
            letter(15, Some(1), Some(("a", 7))),
        ];
        let expected = [13, 11, 12, 10, 14, 15];
        assert_eq!(order(&letters), expected);
        letters.reverse();
        assert_eq!(order(&letters), expected, "in any order of reading");
    }

    #[test]
    fn the_last_turn_of_a_target_is_that_of_its_last_letter_in_the_order() {
        let mut index = Index::new(IndexLimits::default());
        let swapped = [(10, 9, 0), (11, 8, 1), (12, 7, 2)];
        for (offset, origin, target) in swapped {
            let letter = letter(offset, Some(1), Some(("a", origin)));
            index.add(&Letter { target, ..letter }).unwrap();
        }
        let no_key = letter(13, None, Some(("a", 1)));
        index
            .add(&Letter {
                target: 2,
                ..no_key
            })
            .unwrap();
        let last = |end| index.clone().into_order_and_last_turns(end).1;
        assert_eq!(last(u64::MAX), [(0, 2), (1, 1), (2, 3)].into());
        assert_eq!(last(2), [(1, 1), (2, 0)].into(), "nothing goes to 0");
    }

    #[test]
    fn letters_of_two_origin_topics_stay_near_their_places() {
        let topics = ["a", "b"];
        let letters: Vec<_> = (0..1_000)
            .map(|at| letter(at, Some(1), Some((topics[at as usize % 2], (at ^ 2) / 2))))
            .collect();
        let turns = order(&letters);
        let farthest = (0..)
            .zip(&turns)
            .map(|(at, turn): (i64, _)| (turn - at).abs())
            .max();
        assert_eq!(farthest, Some(2), "those of one topic are swapped in pairs");
    }

    #[test]
    fn the_bounds_hold_and_are_stated() {
        let mut index = Index::new(IndexLimits {
            letters: 10,
            topics: 1,
        });
        index.add(&letter(1, None, Some(("a", 1)))).unwrap();
        let error = index.add(&letter(2, None, Some(("b", 1)))).unwrap_err();
        assert_eq!(error, TooMany::Topics(1));
        index.add(&letter(2, None, Some(("a", 2)))).unwrap();
        let letters = IndexLimits::default().letters as usize;
        assert!(
            Index::BYTES_PER_LETTER * letters <= 64_000_000,
            "{}",
            Index::BYTES_PER_LETTER
        );
    }
}
