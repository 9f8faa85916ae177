//! The filter of a command: that of the library, and ages in place of times.

use std::time::SystemTime;

use keylane::dead_letter::Filter;

use super::super::moment::moment;
use crate::failure::Failure;

/// Reads terms. A filter has absolute times: what it means does not change while time passes.
pub(super) fn filter(terms: &[String], now: SystemTime) -> Result<Filter, Failure> {
    let absolute = terms.iter().map(|term| with_times(term, now));
    Filter::parse(absolute).map_err(|error| Failure::Usage(error.to_string()))
}

/// `time=90m..` with the time that was 90 minutes ago. Anything else stays as it is.
fn with_times(term: &str, now: SystemTime) -> String {
    let Some((from, to)) = term
        .strip_prefix("time=")
        .and_then(|range| range.split_once(".."))
    else {
        return term.to_owned();
    };
    let end = |text: &str| match humantime::parse_duration(text) {
        Ok(_) => moment(text, now).map_or_else(
            || text.to_owned(),
            |at| humantime::format_rfc3339_millis(at).to_string(),
        ),
        Err(_) => text.to_owned(),
    };
    format!("time={}..{}", end(from), end(to))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_age_is_a_time_from_then_on() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(7_200);
        for (term, absolute) in [
            ("time=90m..", "time=1970-01-01T00:30:00.000Z.."),
            (
                "time=2h..30m",
                "time=1970-01-01T00:00:00.000Z..1970-01-01T01:30:00.000Z",
            ),
            ("time=..1970-01-01", "time=..1970-01-01"),
            ("error~time=90m..", "error~time=90m.."),
            ("time=", "time="),
        ] {
            assert_eq!(with_times(term, now), absolute);
        }
        let read = filter(&["time=90m..".to_owned()], now).unwrap();
        assert_eq!(read.to_string(), "time=1970-01-01T00:30:00.000Z..");
        let wrong = filter(&["time=soon..".to_owned()], now).unwrap_err();
        assert_eq!(wrong.exit_code(), crate::failure::USAGE);
        assert!(wrong.to_string().contains("soon"), "{wrong}");
    }
}
