//! The filter of a command: that of the library, with ages in place of times.

use std::time::SystemTime;

use keylane::dead_letter::Filter;

use crate::failure::Failure;

pub(super) fn filter(terms: &[String], now: SystemTime) -> Result<Filter, Failure> {
    Filter::parse_at(now, terms).map_err(|error| Failure::Usage(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_term_is_wrong_usage_and_is_named() {
        let wrong = filter(&["time=soon..".to_owned()], SystemTime::UNIX_EPOCH).unwrap_err();
        assert_eq!(wrong.exit_code(), crate::failure::USAGE);
        assert!(wrong.to_string().contains("soon"), "{wrong}");
    }
}
