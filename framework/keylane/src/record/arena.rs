//! Where the bytes of records live: small ones share a chunk.
//!
//! The polling thread copies records in, and owners drop them on other threads. An allocator pays
//! for each block that is freed on another thread. A chunk is one such block for many records. The
//! price: a chunk is freed with its last record, so a record that stays keeps at most [`CHUNK`]
//! bytes of others.

use bytes::{Bytes, BytesMut};

/// Bytes in a chunk: eight records of a hundred bytes. More would save little more, and a record
/// that stays would keep more.
const CHUNK: usize = 1_024;
/// What is longer has an allocation of its own.
const LONGEST_SHARED: usize = CHUNK / 8;

/// Copies keys and values in, and hands out shares.
#[derive(Default)]
pub(crate) struct Arena {
    chunk: BytesMut,
}

impl Arena {
    /// Key and value, one after the other.
    pub(super) fn join(&mut self, key: &[u8], value: &[u8]) -> Bytes {
        let length = key.len() + value.len();
        if length > LONGEST_SHARED {
            let mut own = Vec::with_capacity(length);
            own.extend_from_slice(key);
            own.extend_from_slice(value);
            return own.into();
        }
        if self.chunk.capacity() < length {
            self.chunk = BytesMut::with_capacity(CHUNK);
        }
        self.chunk.extend_from_slice(key);
        self.chunk.extend_from_slice(value);
        self.chunk.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_keep_their_bytes_across_chunks_and_when_their_neighbours_are_gone() {
        let mut arena = Arena::default();
        let expected = |n: u8| [vec![n; usize::from(n % 7)], vec![!n; usize::from(n) * 4]].concat();
        let mut held = Vec::new();
        for n in 0..=u8::MAX {
            let joined = arena.join(&vec![n; usize::from(n % 7)], &vec![!n; usize::from(n) * 4]);
            if n % 3 == 0 {
                held.push((n, joined));
            }
        }
        drop(arena);
        for (n, bytes) in held {
            assert_eq!(bytes, expected(n));
        }
    }

    #[test]
    fn small_records_share_a_chunk_and_long_ones_do_not() {
        let mut arena = Arena::default();
        let end = |bytes: &Bytes| bytes.as_ptr_range().end;
        let (first, second) = (arena.join(b"k", b"1"), arena.join(b"k", b"2"));
        assert_eq!(end(&first), second.as_ptr());
        let long = arena.join(b"k", &[0; LONGEST_SHARED]);
        assert_eq!(end(&second), arena.join(b"k", b"3").as_ptr(), "{long:?}");
    }
}
