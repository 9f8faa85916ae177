//! What logs and status have instead of a key.

use std::fmt;

/// Names a key without showing it: the first 16 hexadecimal digits of its SHA-256.
///
/// It is the same in every process, version and language, so that an operator can check a suspected
/// key:
///
/// ```sh
/// printf %s "vehicle-4711" | sha256sum | cut -c1-16
/// ```
/// ```
/// assert_eq!(keylane::record::KeyHash::of(b"vehicle-4711").to_string(), "1f60e652ab9e07d6");
/// ```
///
/// It hides nothing from a reader who can list all possible keys (telephone numbers, for example).
/// It has no relation to the partition of a key, nor to its lane.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyHash(u64);

impl KeyHash {
    /// The hash of this key.
    ///
    /// # Examples
    /// ```
    /// use keylane::record::KeyHash;
    ///
    /// assert_eq!(KeyHash::of(b"B-KL 42"), KeyHash::of(b"B-KL 42"));
    /// assert_ne!(KeyHash::of(b"B-KL 42"), KeyHash::of(b"B-KL 43"));
    /// ```
    pub fn of(key: &[u8]) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = hmac_sha256::Hash::hash(key);
        Self(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }

    /// The hash that is shown like this: 16 hexadecimal digits.
    ///
    /// # Examples
    /// ```
    /// use keylane::record::KeyHash;
    ///
    /// assert_eq!(KeyHash::parse("1f60e652ab9e07d6"), Some(KeyHash::of(b"vehicle-4711")));
    /// assert_eq!(KeyHash::parse("vehicle-4711"), None);
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        let is_hash = text.len() == 16 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        let number = u64::from_str_radix(text, 16).ok()?;
        is_hash.then_some(Self(number))
    }

    /// The hash with the digits of this number.
    pub(crate) fn of_number(number: u64) -> Self {
        Self(number)
    }

    /// As a number: that of the digits.
    #[doc(hidden)]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

impl serde::Serialize for KeyHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "KeyHash({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_not_show_the_key() {
        assert_eq!(
            format!("{:?}", KeyHash::of(b"abc")),
            "KeyHash(ba7816bf8f01cfea)"
        );
    }
}
