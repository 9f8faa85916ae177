//! Reads the letters of a task in their order.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use keylane_core::redrive::{Order, Turn};

use crate::kafka::SeekReader;
use crate::kafka::config::ClientSettings;
use crate::record::Record;

/// What is kept of letters that were read before their turn.
const AHEAD_BYTES: usize = 32 << 20;
/// A letter further ahead is jumped to.
const JUMP: i64 = 10_000;
/// The turns that come soon.
const SOON: usize = 1_000;

/// Mostly along the log. Where turns of neighbours are swapped, it keeps what it has passed.
pub(super) struct LettersInOrder {
    reader: SeekReader,
    /// The turns by place.
    turns: Vec<(Turn, u64)>,
    ahead: Ahead,
    /// By partition: there is nothing from the first offset to before the second. Each look for what
    /// is gone would take a seek.
    gaps: BTreeMap<i32, Range<i64>>,
    patience: Duration,
}

/// Letters by turn. Those whose turns are last are given up first.
#[derive(Default)]
struct Ahead {
    letters: BTreeMap<u64, Record>,
    bytes: usize,
}

impl LettersInOrder {
    pub(super) fn open(
        config: &ClientSettings,
        topic: &str,
        order: &Order,
        patience: Duration,
    ) -> Result<Self, String> {
        let mut turns: Vec<_> = order.turns().iter().copied().zip(0..).collect();
        turns.sort_unstable();
        let mut partitions: Vec<i32> = turns.iter().map(|(turn, _)| turn.partition).collect();
        partitions.dedup();
        let mut config = config.clone();
        // What is still asked of the place before holds up a jump for so long.
        config.set("fetch.wait.max.ms", "10");
        Ok(Self {
            reader: SeekReader::open(&config, topic, partitions)?,
            turns,
            ahead: Ahead::default(),
            gaps: BTreeMap::new(),
            patience,
        })
    }

    /// The letter of the first of these turns, which has this number; `None` where it is no longer in
    /// the topic.
    pub(super) fn read(&mut self, number: u64, turns: &[Turn]) -> Result<Option<Record>, String> {
        let Some(turn) = turns.first().copied() else {
            return Ok(None);
        };
        let from = || first_needed(turn, turns);
        if let Some(letter) = self.ahead.take(number) {
            return Ok(Some(letter));
        }
        let Self {
            reader,
            turns: places,
            ahead,
            gaps,
            patience,
        } = self;
        let (partition, offset) = (turn.partition, turn.offset.get());
        if gaps
            .get(&partition)
            .is_some_and(|gap| gap.contains(&offset))
        {
            return Ok(None);
        }
        let is_ahead = |(at, next): (i32, i64)| {
            at == partition && next <= offset && offset.saturating_sub(next) <= JUMP
        };
        if !reader.place().is_some_and(is_ahead) {
            reader.seek(partition, from())?;
        }
        let (mut found, mut next) = (None, None);
        reader.read_until(offset.saturating_add(1), *patience, |letter| {
            let place = Turn {
                partition,
                offset: keylane_core::Offset::new(letter.offset()),
            };
            if letter.offset() > offset && next.is_none() {
                next = Some(letter.offset());
            }
            if place == turn {
                found = Some(letter);
            } else if let Ok(at) = places.binary_search_by_key(&place, |(place, _)| *place)
                && places[at].1 > number
            {
                ahead.keep(places[at].1, letter, AHEAD_BYTES);
            }
        })?;
        if found.is_none() {
            let (first, _) = reader.ends(partition, *patience)?;
            let read_to = reader.place().map_or(offset, |(_, next)| next);
            let end = first.max(next.unwrap_or(read_to));
            let begin = if offset < first { i64::MIN } else { offset };
            gaps.insert(partition, begin..end);
        }
        Ok(found)
    }
}

/// Where to read from for this turn, so that those which come soon and lie a little before it are
/// passed on the way.
fn first_needed(turn: Turn, turns: &[Turn]) -> i64 {
    let offset = turn.offset.get();
    let near = offset.saturating_sub(JUMP)..offset;
    let soon = turns.iter().take(SOON);
    let before = soon
        .filter(|it| it.partition == turn.partition && near.contains(&it.offset.get()))
        .map(|it| it.offset.get());
    before.min().unwrap_or(offset)
}

impl Ahead {
    fn take(&mut self, turn: u64) -> Option<Record> {
        let letter = self.letters.remove(&turn)?;
        self.bytes -= bytes(&letter);
        Some(letter)
    }

    fn keep(&mut self, turn: u64, letter: Record, limit: usize) {
        self.take(turn);
        self.bytes += bytes(&letter);
        self.letters.insert(turn, letter);
        while self.bytes > limit {
            let Some((_, letter)) = self.letters.pop_last() else {
                break;
            };
            self.bytes -= bytes(&letter);
        }
    }
}

/// What it takes, about.
fn bytes(letter: &Record) -> usize {
    let headers = letter.headers().iter();
    let headers: usize = headers
        .map(|(name, value)| 64 + name.len() + value.map_or(0, |value| value.len()))
        .sum();
    128 + letter.key().map_or(0, <[u8]>::len) + letter.value().map_or(0, <[u8]>::len) + headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Arena;

    #[test]
    fn a_jump_goes_to_the_first_letter_that_is_needed_soon_and_lies_near() {
        let turn = |partition, offset| Turn {
            partition,
            offset: keylane_core::Offset::new(offset),
        };
        let mut turns = vec![
            turn(0, 50_000),
            turn(0, 49_000),
            turn(1, 48_000),
            turn(0, 1),
        ];
        assert_eq!(first_needed(turns[0], &turns), 49_000);
        turns.extend((0..SOON as i64).map(|it| turn(0, 60_000 + it)));
        turns.push(turn(0, 45_000));
        assert_eq!(
            first_needed(turns[0], &turns),
            49_000,
            "not for one that comes late"
        );
        assert_eq!(first_needed(turns[1], &turns[1..]), 49_000);
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_last_turns_are_given_up() {
        let mut arena = Arena::default();
        let letter = |arena: &mut Arena, offset| {
            Record::new(arena, offset, None, None, Some(&[0; 872]), None)
        };
        let mut ahead = Ahead::default();
        for turn in [9_u64, 3, 7, 5, 7] {
            let letter = letter(&mut arena, turn.cast_signed());
            ahead.keep(turn, letter, 3_000);
        }
        assert_eq!(ahead.letters.keys().copied().collect::<Vec<_>>(), [3, 5, 7]);
        assert_eq!(ahead.bytes, 3_000);
        assert_eq!(ahead.take(5).map(|it| it.offset()), Some(5));
        assert!(ahead.take(5).is_none() && ahead.bytes == 2_000);
    }
}
