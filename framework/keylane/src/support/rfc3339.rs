//! Times as text: RFC 3339 in UTC with milliseconds.

use std::time::{Duration, UNIX_EPOCH};

/// The last millisecond of the year 9999: beyond it the format has no more digits.
const LATEST_MILLIS: i64 = 253_402_300_799_999;

/// A time in milliseconds since the Unix epoch as text; times before 1970 or after 9999 become the
/// nearest of these.
pub(crate) fn format_millis(millis: i64) -> String {
    let since_epoch = Duration::from_millis(millis.clamp(0, LATEST_MILLIS).unsigned_abs());
    humantime::format_rfc3339_millis(UNIX_EPOCH + since_epoch).to_string()
}

/// The time that such a text names, in milliseconds since the Unix epoch.
pub(crate) fn parse_millis(text: &str) -> Option<i64> {
    let time = humantime::parse_rfc3339(text).ok()?;
    i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn formats_utc_with_milliseconds_and_stays_within_the_format() {
        assert_eq!(format_millis(1_763_698_843_017), "2025-11-21T04:20:43.017Z");
        assert_eq!(format_millis(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(format_millis(i64::MIN), "1970-01-01T00:00:00.000Z");
        assert_eq!(format_millis(i64::MAX), "9999-12-31T23:59:59.999Z");
    }

    proptest! {
        #[test]
        fn a_time_survives_the_round_trip(millis in 0..=LATEST_MILLIS) {
            prop_assert_eq!(parse_millis(&format_millis(millis)), Some(millis));
        }

        #[test]
        fn any_text_parses_or_is_refused(text in "\\PC{0,40}|[0-9TZ:.+ -]{0,40}") {
            let _ = parse_millis(&text);
        }
    }
}
