//! What a dead letter says, as cells.

use std::time::SystemTime;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use keylane::dead_letter::{Letter, StoredLetter, WrittenBy};
use keylane::record::Origin;
use serde_json::{Value, json};

use crate::output::Cell;

/// Texts are cut for people behind this many characters.
const WIDTH: usize = 60;
/// Bytes are cut behind this many, for programs too: a list is no place for whole keys.
const MOST_BYTES: usize = 256;

pub(super) fn place(topic: &str, partition: i32, offset: i64) -> String {
    format!("{topic}/{partition}@{offset}")
}

pub(super) fn place_of(letter: &StoredLetter) -> String {
    place(letter.topic(), letter.partition(), letter.offset())
}

pub(super) fn origin(origin: Option<&Origin>) -> Cell {
    optional(origin, |it| {
        Cell::text(place(&it.topic, it.partition, it.offset))
    })
}

pub(super) fn time(at: Option<SystemTime>) -> Cell {
    optional(at, |at| {
        Cell::text(humantime::format_rfc3339_millis(at).to_string())
    })
}

/// A record from the future, by another clock, is new.
pub(super) fn age(at: Option<SystemTime>, now: SystemTime) -> Cell {
    optional(at, |at| {
        Cell::Age(now.duration_since(at).unwrap_or_default())
    })
}

pub(super) fn text(text: Option<&str>) -> Cell {
    optional(text, Cell::text)
}

/// Cut for people, whole for programs.
pub(in crate::commands) fn cut_text(text: Option<&str>) -> Cell {
    optional(text, |text| Cell::said(cut(text, WIDTH), text))
}

pub(super) fn count(count: Option<u32>) -> Cell {
    optional(count, |count| Cell::Number(count.into()))
}

/// How many times a record was written back.
pub(super) fn redrives(letter: &Letter) -> Cell {
    match letter.redrive_count {
        u32::MAX => Cell::text("unreadable"),
        count => Cell::Number(count.into()),
    }
}

pub(super) fn written_by(letter: &Letter) -> Cell {
    Cell::text(match letter.written_by {
        WrittenBy::Keylane => "keylane",
        WrittenBy::ShareGroup => "kip-1191",
        WrittenBy::Spring => "spring",
        WrittenBy::Connect => "connect",
        WrittenBy::SmallRye => "smallrye",
        WrittenBy::Karafka => "karafka",
        _ => "another",
    })
}

/// A key in a list.
pub(in crate::commands) fn cut_bytes(bytes: Option<&[u8]>) -> Cell {
    optional(bytes, |bytes| {
        let start = &bytes[..bytes.len().min(MOST_BYTES)];
        let words = match readable(start, bytes.len() > start.len()) {
            Some(text) => cut(&in_words(text), WIDTH),
            None => cut(&hex(start), WIDTH),
        };
        let value = match start.len() == bytes.len() {
            true => whole(bytes),
            false => json!({"first": whole(start), "bytes": bytes.len()}),
        };
        Cell::said(words, value)
    })
}

/// Text as it is, or the bytes in base64.
pub(super) fn whole(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({"base64": BASE64_STANDARD.encode(bytes)}),
    }
}

/// An empty text would not be seen.
pub(super) fn in_words(text: &str) -> String {
    match text.is_empty() {
        true => "(empty)".to_owned(),
        false => text.to_owned(),
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    format!("0x{}", digits.collect::<String>())
}

/// No more than `width` characters, of which the last says that there were more.
pub(super) fn cut(text: &str, width: usize) -> String {
    match text.char_indices().nth(width) {
        None => text.to_owned(),
        Some(_) => {
            let kept = text.chars().take(width.saturating_sub(1));
            kept.chain(['…']).collect()
        }
    }
}

/// The text; where it was cut, without half a character at its end.
fn readable(bytes: &[u8], is_cut: bool) -> Option<&str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(error) if is_cut && error.error_len().is_none() => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    }
}

pub(super) fn optional<T>(value: Option<T>, cell: impl FnOnce(T) -> Cell) -> Cell {
    value.map_or(Cell::Nothing, cell)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(bytes: &[u8]) -> (String, Value) {
        match cut_bytes(Some(bytes)) {
            Cell::Said { words, value } => (words, value),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_key_is_text_where_it_is_one_and_bytes_otherwise() {
        assert_eq!(shown(b"B-KL 42"), ("B-KL 42".into(), json!("B-KL 42")));
        assert_eq!(shown(b""), ("(empty)".into(), json!("")));
        assert_eq!(
            shown(&[0xff, 1]),
            ("0xff01".into(), json!({"base64": "/wE="}))
        );
        assert_eq!(cut_bytes(None), Cell::Nothing);
    }

    #[test]
    fn a_long_key_is_cut_and_says_so() {
        let key = "é".repeat(1_000);
        let (words, value) = shown(key.as_bytes());
        assert_eq!(words.chars().count(), WIDTH);
        assert!(words.ends_with('…'), "{words}");
        assert_eq!(value["bytes"], 2_000);
        assert_eq!(value["first"], json!("é".repeat(128)));
        // The cut falls into a character.
        let key = format!("a{key}");
        assert!(shown(key.as_bytes()).0.starts_with("aé"));
        let (words, value) = shown(&[0xff; 1_000]);
        assert!(words.starts_with("0xff") && words.chars().count() == WIDTH);
        assert_eq!(value["bytes"], 1_000);
    }

    #[test]
    fn a_text_is_cut_for_people_alone() {
        let text = "x".repeat(61);
        let Cell::Said { words, value } = cut_text(Some(&text)) else {
            panic!("it is said");
        };
        assert_eq!(words, format!("{}…", "x".repeat(59)));
        assert_eq!(value, json!(text));
        assert_eq!(cut("abc", 3), "abc");
    }
}
