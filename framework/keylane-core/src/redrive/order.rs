//! The order in which letters are copied, and its form in storage.
//!
//! A chunk is a version byte; the number of the turns before it and of its turns, as varints; for
//! each turn the differences of partition and offset to the turn before it, as zigzag varints (the
//! first one's to 0); and the CRC-32 of all that, little-endian.

use thiserror::Error;

use crate::offset::Offset;
use crate::varint;

/// The most bytes of a chunk.
pub const MAX_CHUNK_BYTES: usize = 256 * 1024;

const VERSION: u8 = 1;
const CHECKSUM_BYTES: usize = 4;
/// Of a varint.
const LONGEST: usize = 10;

/// Which letter is copied when.
///
/// # Examples
/// ```
/// use keylane_core::Offset;
/// use keylane_core::redrive::{Order, Turn};
///
/// let turn = |offset| Turn { partition: 3, offset: Offset::new(offset) };
/// let order = Order::new(vec![turn(7), turn(5), turn(9)]);
/// let chunks = order.chunks();
/// assert_eq!(chunks[0].len(), 13);
/// let read = Order::read(chunks.iter().map(Vec::as_slice));
/// assert_eq!(read, Ok(order));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    turns: Vec<Turn>,
}

/// The place of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Turn {
    /// The partition of the dead-letter topic.
    pub partition: i32,
    /// The offset there.
    pub offset: Offset,
}

/// A stored order that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OrderError {
    /// Written by a later version.
    #[error("it has the format {0}, which a newer version of keylane wrote")]
    Newer(u8),
    /// Changed, cut, or of something else.
    #[error("it is damaged")]
    Damaged,
    /// A chunk is missing, or they are not in order.
    #[error("a part of it is missing")]
    Gap,
}

impl Order {
    /// These letters, one after the other.
    pub fn new(turns: Vec<Turn>) -> Self {
        Self { turns }
    }

    /// The letters, in order.
    pub fn turns(&self) -> &[Turn] {
        &self.turns
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.turns.len() as u64
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// For storage, in chunks of at most [`MAX_CHUNK_BYTES`].
    pub fn chunks(&self) -> Vec<Vec<u8>> {
        self.chunks_of(MAX_CHUNK_BYTES)
    }

    fn chunks_of(&self, bytes: usize) -> Vec<Vec<u8>> {
        let room = bytes.saturating_sub(1 + 2 * LONGEST + CHECKSUM_BYTES);
        let (mut chunks, mut first) = (Vec::new(), 0);
        while first < self.turns.len() {
            let (mut body, mut count) = (Vec::new(), 0_usize);
            let mut before = (0_i64, 0_i64);
            for turn in &self.turns[first..] {
                if count > 0 && body.len() + 2 * LONGEST > room {
                    break;
                }
                let at = (i64::from(turn.partition), turn.offset.get());
                push_signed(&mut body, at.0 - before.0);
                push_signed(&mut body, at.1.wrapping_sub(before.1));
                before = at;
                count += 1;
            }
            let mut chunk = vec![VERSION];
            varint::write(&mut chunk, first as u64);
            varint::write(&mut chunk, count as u64);
            chunk.append(&mut body);
            let checksum = crc32fast::hash(&chunk);
            chunk.extend_from_slice(&checksum.to_le_bytes());
            chunks.push(chunk);
            first += count;
        }
        chunks
    }

    /// Whether a later version wrote this chunk.
    pub fn is_newer(chunk: &[u8]) -> bool {
        chunk.first().is_some_and(|version| *version > VERSION)
    }

    /// From the chunks in storage, in their order.
    ///
    /// # Errors
    /// [`OrderError`] where they are not what was stored.
    pub fn read<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, OrderError> {
        let mut order = Self::default();
        for chunk in chunks {
            order.read_chunk(chunk)?;
        }
        Ok(order)
    }

    fn read_chunk(&mut self, chunk: &[u8]) -> Result<(), OrderError> {
        let (content, checksum) = chunk
            .split_last_chunk::<CHECKSUM_BYTES>()
            .ok_or(OrderError::Damaged)?;
        if crc32fast::hash(content) != u32::from_le_bytes(*checksum) {
            return Err(OrderError::Damaged);
        }
        let (&version, mut rest) = content.split_first().ok_or(OrderError::Damaged)?;
        if version != VERSION {
            return Err(OrderError::Newer(version));
        }
        let mut next = || varint::read(&mut rest).ok_or(OrderError::Damaged);
        if next()? != self.len() {
            return Err(OrderError::Gap);
        }
        let count = next()?;
        let (mut partition, mut offset) = (0_i64, 0_i64);
        for _ in 0..count {
            partition = partition.wrapping_add(unzigzag(next()?));
            offset = offset.wrapping_add(unzigzag(next()?));
            self.turns.push(Turn {
                partition: i32::try_from(partition).map_err(|_| OrderError::Damaged)?,
                offset: Offset::new(offset),
            });
        }
        match rest {
            [] => Ok(()),
            _ => Err(OrderError::Damaged),
        }
    }
}

fn push_signed(bytes: &mut Vec<u8>, number: i64) {
    let zigzag = (number << 1) ^ (number >> 63);
    varint::write(bytes, zigzag.cast_unsigned());
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -((number & 1).cast_signed())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn turns() -> impl Strategy<Value = Vec<Turn>> {
        let offset = prop_oneof![0..2_000_i64, 0..=i64::MAX];
        let turn = (prop_oneof![0..4, 0..=i32::MAX], offset).prop_map(|(partition, offset)| Turn {
            partition,
            offset: Offset::new(offset),
        });
        proptest::collection::vec(turn, 0..200)
    }

    fn read(chunks: &[Vec<u8>]) -> Result<Order, OrderError> {
        Order::read(chunks.iter().map(Vec::as_slice))
    }

    proptest! {
        #[test]
        fn what_is_stored_is_read_back_and_fits(turns in turns(), bytes in 64..600_usize) {
            let order = Order::new(turns);
            let chunks = order.chunks_of(bytes);
            prop_assert!(chunks.iter().all(|chunk| chunk.len() <= bytes));
            prop_assert_eq!(read(&chunks), Ok(order));
        }

        #[test]
        fn what_is_changed_cut_or_missing_is_noticed(
            turns in turns(), at in any::<prop::sample::Index>(), byte in any::<prop::sample::Index>(), by in 1..=255_u8,
        ) {
            prop_assume!(!turns.is_empty());
            let chunks = Order::new(turns).chunks_of(64);
            let at = at.index(chunks.len());
            let mut changed = chunks.clone();
            let byte = byte.index(changed[at].len());
            changed[at][byte] ^= by;
            prop_assert!(read(&changed).is_err());
            changed[at].truncate(byte);
            prop_assert!(read(&changed).is_err());
            if at + 1 < chunks.len() {
                changed = chunks;
                changed.remove(at);
                prop_assert_eq!(read(&changed), Err(OrderError::Gap));
            }
        }

        #[test]
        fn foreign_bytes_are_an_error_and_take_no_memory(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            prop_assert!(Order::read([bytes.as_slice()]).is_err());
            // With a checksum that is right.
            bytes.insert(0, VERSION);
            let checksum = crc32fast::hash(&bytes);
            bytes.extend_from_slice(&checksum.to_le_bytes());
            if let Ok(order) = Order::read([bytes.as_slice()]) {
                prop_assert!(order.turns().len() < bytes.len());
            }
        }
    }

    #[test]
    fn a_million_letters_take_a_few_megabytes_and_a_newer_format_is_told() {
        let turn = |at: i64| Turn {
            partition: i32::try_from(at / 100_000).unwrap(),
            offset: Offset::new(at % 100_000 * 100),
        };
        let mut chunks = Order::new((0..1_000_000).map(turn).collect()).chunks();
        let bytes: usize = chunks.iter().map(Vec::len).sum();
        assert!(bytes < 4_000_000, "{bytes}");
        chunks.truncate(1);
        let end = chunks[0].len() - CHECKSUM_BYTES;
        chunks[0].truncate(end);
        chunks[0][0] = 2;
        let checksum = crc32fast::hash(&chunks[0]);
        chunks[0].extend_from_slice(&checksum.to_le_bytes());
        assert_eq!(read(&chunks), Err(OrderError::Newer(2)));
        assert!(Order::is_newer(&chunks[0]) && !Order::is_newer(&[VERSION]));
    }
}
