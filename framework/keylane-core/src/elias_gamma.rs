//! Elias gamma code: numbers from 1 on as bits, the small ones in few. 1 takes one bit, 2 and 3
//! take three, 4 to 7 take five, and so on. A code is as many zeros as the number has bits after
//! its first, then the number.
//!
//! The last byte is filled up with zeros. No number begins like that, so the end needs no mark.

/// The bits of a number. Zero has no code.
pub(crate) fn length_bits(number: u64) -> usize {
    debug_assert!(number > 0);
    2 * number.max(1).ilog2() as usize + 1
}

/// Numbers as bits, the highest bit of each byte first.
#[derive(Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
    length_bits: usize,
}

impl Writer {
    /// How many bits are written.
    pub(crate) fn length_bits(&self) -> usize {
        self.length_bits
    }

    /// Appends a number above zero.
    pub(crate) fn push(&mut self, number: u64) {
        // The zeros in front are there already: a new byte is zero.
        self.length_bits += length_bits(number) / 2;
        for bit in (0..=number.max(1).ilog2()).rev() {
            self.push_bit(number >> bit & 1 != 0);
        }
    }

    /// All of it, filled up with zeros to whole bytes.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn push_bit(&mut self, bit: bool) {
        self.bytes.resize(self.length_bits / 8 + 1, 0);
        if let Some(last) = self.bytes.last_mut() {
            *last |= u8::from(bit) << (7 - self.length_bits % 8);
        }
        self.length_bits += 1;
    }
}

/// Reads what a [`Writer`] wrote.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at_bit: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at_bit: 0 }
    }

    /// Whether only the filling of the last byte is left: less than eight bits, and all of them
    /// zero.
    pub(crate) fn is_at_end(&self) -> bool {
        let rest = self.bytes.get(self.at_bit / 8..).unwrap_or_default();
        match rest {
            [] => true,
            [last] => !self.at_bit.is_multiple_of(8) && last << (self.at_bit % 8) == 0,
            _ => false,
        }
    }

    /// The next number; `None` where it is cut off or exceeds 64 bits.
    pub(crate) fn next(&mut self) -> Option<u64> {
        let mut zeros = 0;
        while !self.next_bit()? {
            zeros += 1;
            if zeros == u64::BITS {
                return None;
            }
        }
        let mut number = 1;
        for _ in 0..zeros {
            number = number << 1 | u64::from(self.next_bit()?);
        }
        Some(number)
    }

    fn next_bit(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.at_bit / 8)?;
        let bit = byte >> (7 - self.at_bit % 8) & 1;
        self.at_bit += 1;
        Some(bit != 0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(numbers: &[u64]) -> Vec<u8> {
        let mut writer = Writer::default();
        numbers.iter().for_each(|&number| writer.push(number));
        writer.into_bytes()
    }

    #[test]
    fn the_bits_are_those_of_the_book() {
        assert_eq!(written(&[1, 2, 3, 4]), [0b1010_0110, 0b0100_0000]);
        assert_eq!(written(&[]), []);
        assert_eq!(written(&[1; 8]), [0xff]);
    }

    #[test]
    fn what_is_cut_off_or_longer_than_64_bits_is_refused() {
        assert_eq!(Reader::new(&[]).next(), None);
        assert_eq!(Reader::new(&[0b0000_0100]).next(), None, "cut off");
        assert_eq!(
            Reader::new(&[0, 0, 0, 0, 0, 0, 0, 0, 0xff]).next(),
            None,
            "65 bits"
        );
        assert_eq!(Reader::new(&written(&[u64::MAX])).next(), Some(u64::MAX));
        assert!(!Reader::new(&[0]).is_at_end(), "a byte of padding");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(numbers in proptest::collection::vec(prop_oneof![1_u64..9, 1..=u64::MAX], 0..50)) {
            let mut writer = Writer::default();
            let mut length = 0;
            for &number in &numbers {
                writer.push(number);
                length += length_bits(number);
                prop_assert_eq!(writer.length_bits(), length);
            }
            let bytes = writer.into_bytes();
            prop_assert_eq!(bytes.len(), length.div_ceil(8));
            let mut reader = Reader::new(&bytes);
            for number in numbers {
                prop_assert!(!reader.is_at_end());
                prop_assert_eq!(reader.next(), Some(number));
            }
            prop_assert!(reader.is_at_end());
        }
    }
}
