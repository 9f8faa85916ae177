//! Which dead letters fail alike. Pure.

use std::fmt;

use super::Letter;
use super::bounded_text::bounded_text;

/// The longest text of a fingerprint.
const LIMIT_BYTES: usize = 300;
/// A word of letters and digits of this length is an id.
const ID_LENGTH: usize = 16;
/// A word of hexadecimal digits of this length is an id.
const HEX_LENGTH: usize = 8;

/// What dead letters that fail alike have in common: reason, error class, and the error's text
/// without what differs from record to record.
///
/// In the text `<n>` stands for a number, `<hex>` for a hexadecimal one of 8 digits or more,
/// `<uuid>` for a UUID, and `<id>` for a word of 16 or more letters and digits. It has at most 300
/// bytes.
///
/// # Examples
/// ```
/// use keylane::Headers;
/// use keylane::dead_letter::{Fingerprint, Letter};
///
/// let letter = |error: &str| {
///     let mut headers = Headers::new();
///     headers.push("keylane-group", "notifier");
///     headers.push("keylane-reason", "exhausted");
///     headers.push("keylane-error", error.to_owned());
///     Letter::read(&headers).expect("a dead letter")
/// };
/// let fingerprint = Fingerprint::of(&letter("order 4711 refused with 503"));
/// assert_eq!(fingerprint.text(), "exhausted: order <n> refused with <n>");
/// assert_eq!(fingerprint, Fingerprint::of(&letter("order 4712 refused with 503")));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint {
    text: Box<str>,
}

impl Fingerprint {
    /// That of this letter.
    pub fn of(letter: &Letter) -> Self {
        let mut text = String::with_capacity(LIMIT_BYTES);
        text.push_str(letter.reason.as_deref().unwrap_or("-"));
        if let Some(class) = &letter.error_class {
            text.push(' ');
            text.push_str(class);
        }
        if let Some(error) = &letter.error {
            text.push_str(": ");
            push_without_ids(&mut text, error);
        }
        Self {
            text: bounded_text(&text, LIMIT_BYTES).into(),
        }
    }

    /// The common text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// A short name of it, 16 hexadecimal digits: the beginning of the SHA-256 of its text.
    pub fn id(&self) -> String {
        let hash = hmac_sha256::Hash::hash(self.text.as_bytes());
        hash[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Its text.
impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

fn push_without_ids(text: &mut String, error: &str) {
    let is_of_word = |it: char| it.is_ascii_alphanumeric();
    let mut rest = error;
    // Bounded by what is kept: a text may end in a half word, in all letters alike.
    while !rest.is_empty() && text.len() <= LIMIT_BYTES {
        if let Some(after) = after_uuid(rest) {
            text.push_str("<uuid>");
            rest = after;
            continue;
        }
        let word = rest.find(|it| !is_of_word(it)).unwrap_or(rest.len());
        if word == 0 {
            let after = rest.chars().next().map_or(1, char::len_utf8);
            text.push_str(&rest[..after]);
            rest = &rest[after..];
            continue;
        }
        push_word(text, &rest[..word]);
        rest = &rest[word..];
    }
}

fn push_word(text: &mut String, word: &str) {
    let has_digit = word.bytes().any(|byte| byte.is_ascii_digit());
    let is_hex = |word: &str| word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let prefixed = word.strip_prefix("0x").filter(|digits| is_hex(digits));
    if !has_digit {
        text.push_str(word);
    } else if word.bytes().all(|byte| byte.is_ascii_digit()) {
        text.push_str("<n>");
    } else if prefixed.is_some() || (word.len() >= HEX_LENGTH && is_hex(word)) {
        text.push_str("<hex>");
    } else if word.len() >= ID_LENGTH {
        text.push_str("<id>");
    } else {
        let mut in_number = false;
        for character in word.chars() {
            match character.is_ascii_digit() {
                true if in_number => {}
                true => text.push_str("<n>"),
                false => text.push(character),
            }
            in_number = character.is_ascii_digit();
        }
    }
}

/// What follows a UUID at the beginning.
fn after_uuid(text: &str) -> Option<&str> {
    let (uuid, after) = text.split_at_checked(36)?;
    let is_uuid = uuid.bytes().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    });
    let ends = !after.starts_with(|it: char| it.is_ascii_alphanumeric());
    (is_uuid && ends).then_some(after)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Headers;

    fn of(error: &str) -> Fingerprint {
        let mut headers = Headers::new();
        headers.push("keylane-group", "g");
        headers.push("keylane-reason", "fatal");
        headers.push("keylane-error-class", "gate::Busy");
        headers.push("keylane-error", error.to_owned());
        Fingerprint::of(&Letter::read(&headers).unwrap())
    }

    #[test]
    fn what_differs_from_record_to_record_is_left_out() {
        for (error, expected) in [
            ("took 12.5s", "took <n>.<n>s"),
            ("at 0x7ffe12 in deadbeef01", "at <hex> in <hex>"),
            (
                "ticket 6BA7B810-9dad-11d1-80b4-00c04fd430c8: gone",
                "ticket <uuid>: gone",
            ),
            ("session x7Gh29KqPl0aZz81Q ended", "session <id> ended"),
            ("facade effaced", "facade effaced"),
            ("utf8 é 3", "utf<n> é <n>"),
        ] {
            let expected = format!("fatal gate::Busy: {expected}");
            assert_eq!(of(error).text(), expected);
        }
    }

    #[test]
    fn its_id_is_that_of_the_text() {
        // printf %s "fatal gate::Busy: order <n>" | sha256sum | cut -c1-16
        assert_eq!(of("order 1").id(), of("order 22").id());
        assert_ne!(of("order 1").id(), of("odd 22").id());
        assert_eq!(of("order 1").id().len(), 16);
    }

    #[test]
    fn a_letter_that_says_nothing_has_one_too() {
        let karafka: Headers = [("source_topic", "t")].into_iter().collect();
        let letter = Letter::read(&karafka).unwrap();
        assert_eq!(Fingerprint::of(&letter).text(), "-");
    }

    proptest! {
        #[test]
        fn it_is_bounded_and_numbers_make_no_difference(
            words in proptest::collection::vec("[ a-zA-Zé:-]{1,9} ", 0..80), numbers in proptest::collection::vec(any::<u32>(), 160),
        ) {
            let error = |numbers: &[u32]| -> String {
                words.iter().zip(numbers).map(|(word, number)| format!("{word}{number} ")).collect()
            };
            // No longer than a header's text, whose cut may fall into a number.
            let cut = |text: String| text.chars().take(400).collect::<String>();
            let one = of(&cut(error(&numbers[..80])));
            prop_assert!(one.text().len() <= LIMIT_BYTES);
            let short = words.len() < 15;
            prop_assert!(!short || one == of(&cut(error(&numbers[80..]))));
        }
    }
}
