//! Numbers out of a fuzzer's bytes; past the end they are zero.

/// The bytes that are left.
#[derive(Debug)]
pub(super) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// All of them.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is left, as it is.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// At most this many of the next bytes.
    pub(super) fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// The next byte.
    pub(super) fn u8(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    /// The next two.
    pub(super) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// The next four.
    pub(super) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    /// The next eight.
    pub(super) fn i64(&mut self) -> i64 {
        i64::from_le_bytes(self.array())
    }

    /// A number from 0 on of one byte, or of up to eight: a few more bits of it decide on the rest.
    pub(super) fn number(&mut self) -> i64 {
        let first = self.u8();
        match first {
            0xff => self.i64() & i64::MAX >> 1,
            0xf0.. => i64::from(self.u32()),
            0x80.. => i64::from(first & 0x7f) << 8 | i64::from(self.u8()),
            _ => i64::from(first),
        }
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let taken = self.take(N);
        let mut array = [0; N];
        array[..taken.len()].copy_from_slice(taken);
        array
    }
}
