//! Unsigned LEB128: seven bits a byte, the lowest first.

pub(crate) fn write(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Takes a number off the front; `None` where it is cut off or exceeds 64 bits.
pub(crate) fn read(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        value |= bits << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_number_beyond_64_bits_is_refused() {
        assert_eq!(read(&mut [0xff; 9].as_slice()), None, "cut off");
        assert_eq!(read(&mut [0xff; 11].as_slice()), None, "too long");
        let mut max = [0xff; 10];
        max[9] = 0x01;
        assert_eq!(read(&mut max.as_slice()), Some(u64::MAX));
        max[9] = 0x02;
        assert_eq!(read(&mut max.as_slice()), None, "65 bits");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(values: Vec<u64>) {
            let mut bytes = Vec::new();
            values.iter().for_each(|&value| write(&mut bytes, value));
            let mut rest = bytes.as_slice();
            for value in values {
                prop_assert_eq!(read(&mut rest), Some(value));
            }
            prop_assert!(rest.is_empty());
        }
    }
}
