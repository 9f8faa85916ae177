//! Text from outside, made fit for a header.

use std::sync::Arc;

use super::names;
use crate::Headers;

/// The longest error text in a header.
const MAX_ERROR_BYTES: usize = 1024;

/// The text of a record's error, cut when it is made: it is kept while the record is pending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ErrorText(Arc<str>);

impl ErrorText {
    pub(crate) fn of(error: &str) -> Self {
        Self(bounded_text(error, MAX_ERROR_BYTES).into())
    }

    /// That of an earlier round, which a record on the retry topic brings along.
    pub(crate) fn of_earlier_round(headers: &Headers) -> Option<Self> {
        headers.last_str(names::ERROR).map(Self::of)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// `text` with control characters as spaces, in at most `limit_bytes` bytes; what was cut ends in
/// `…`.
///
/// Reads no more of `text` than it keeps: an error message of many megabytes costs nothing.
pub(crate) fn bounded_text(text: &str, limit_bytes: usize) -> String {
    const CUT: char = '…';
    // Nearly every text.
    if text.len() <= limit_bytes && text.bytes().all(|it| matches!(it, b' '..=b'~')) {
        return text.to_owned();
    }
    let mut kept = String::with_capacity(text.len().min(limit_bytes));
    // The longest prefix that leaves room for the mark, in case the rest turns out not to fit.
    let mut fits_with_mark = 0;
    for character in text.chars() {
        let character = if character.is_control() {
            ' '
        } else {
            character
        };
        if kept.len() + character.len_utf8() > limit_bytes {
            kept.truncate(fits_with_mark);
            if CUT.len_utf8() <= limit_bytes {
                kept.push(CUT);
            }
            break;
        }
        kept.push(character);
        if kept.len() + CUT.len_utf8() <= limit_bytes {
            fits_with_mark = kept.len();
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn short_text_stays_and_control_characters_become_spaces() {
        assert_eq!(
            bounded_text("connection refused", 1024),
            "connection refused"
        );
        assert_eq!(bounded_text("a\r\n\tb\u{0}\u{85}c", 1024), "a   b  c");
        assert_eq!(bounded_text("exact", 5), "exact");
    }

    #[test]
    fn long_text_is_cut_between_characters_and_marked() {
        assert_eq!(bounded_text("abcdefgh", 7), "abcd…");
        assert_eq!(bounded_text("ééééé", 8), "éé…");
        assert_eq!(bounded_text("ab", 1), "");
    }

    proptest! {
        #[test]
        fn never_longer_than_the_limit_and_free_of_control_characters(text in any::<String>(), limit in 0usize..40) {
            let kept = bounded_text(&text, limit);
            prop_assert!(kept.len() <= limit);
            prop_assert!(!kept.chars().any(char::is_control));
            if text.len() <= limit && !text.chars().any(char::is_control) {
                prop_assert_eq!(kept, text);
            }
        }
    }
}
