//! Names, times, traces and error texts.

use crate::dead_letter::{Filter, bounded_text};
use crate::support::rfc3339;
use crate::trace::TraceParent;

/// Any text as a time, as a trace context, as a term of a filter, as the name of a topic and as an error's text; the first
/// byte is the limit of the last.
pub fn text(bytes: &[u8]) {
    let Some((limit, text)) = bytes.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    if let Some(millis) = rfc3339::parse_millis(text) {
        // The last millisecond of the year 9999.
        assert!(
            (0..=253_402_300_799_999).contains(&millis),
            "{text:?} was read as {millis}"
        );
        let written = rfc3339::format_millis(millis);
        assert_eq!(rfc3339::parse_millis(&written), Some(millis));
        assert_eq!(
            written.get(..17),
            text.get(..17).map(|same| same.replace(' ', "T")).as_deref(),
            "{text:?}"
        );
    }
    if let Ok(parent) = text.parse::<TraceParent>() {
        let written = parent.to_string();
        assert_eq!(written.parse(), Ok(parent));
        assert_eq!(
            written.get(3..53),
            text.get(3..53),
            "{text:?} was read as {written}"
        );
    }
    match Filter::parse([text]) {
        Ok(filter) => assert_eq!(filter.to_string(), text),
        Err(error) => assert!(error.to_string().len() <= 8 * 1024, "{error}"),
    }
    let legal = !text.is_empty()
        && text.len() <= 249
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
        && text.bytes().any(|byte| byte != b'.' || text.len() > 2);
    assert_eq!(keylane_core::check_topic_name(text).is_ok(), legal);

    let limit = usize::from(*limit);
    let kept = bounded_text(text, limit);
    assert!(kept.len() <= limit && !kept.chars().any(char::is_control));
    let whole: String = text
        .chars()
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .collect();
    if kept != whole {
        assert!(whole.len() > limit);
        assert!(whole.starts_with(kept.strip_suffix('…').unwrap_or(&kept)));
    }
}
