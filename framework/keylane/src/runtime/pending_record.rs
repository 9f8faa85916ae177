//! A record while it is pending.

use crate::dead_letter::{ErrorText, FailureHistory};
use crate::record::{KeyHash, Record};
use crate::support::clock;

/// What the core keeps for its owner.
pub(crate) struct PendingRecord {
    pub(crate) record: Record,
    /// Present once an attempt has failed.
    pub(crate) failure: Option<Box<FailureHistory>>,
}

impl PendingRecord {
    /// One that was not attempted yet.
    pub(crate) fn new(record: Record) -> Self {
        Self {
            record,
            failure: None,
        }
    }

    /// How long ago it failed first, here or in an earlier round; 0 where it has not, and 1 at least
    /// where it has.
    pub(crate) fn failing_for_millis(&self) -> u32 {
        let here = self.failure.as_ref().map(|it| it.first_failure_millis);
        let first = here.or_else(|| self.record.retry_state()?.first_failure_millis);
        let Some(first) = first else {
            return 0;
        };
        let since = clock::unix_millis().saturating_sub(first).max(1);
        u32::try_from(since).unwrap_or(u32::MAX)
    }

    /// The error of its last attempt, here or in an earlier round through the retry topic.
    pub(crate) fn last_error(&self) -> Option<ErrorText> {
        match &self.failure {
            Some(failure) => Some(failure.error.clone()),
            None => {
                let _ = self.record.retry_state()?;
                ErrorText::of_earlier_round(self.record.headers())
            }
        }
    }

    pub(crate) fn key_hash(&self) -> Option<KeyHash> {
        self.record.key().map(KeyHash::of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Headers;
    use crate::dead_letter::Intake;
    use crate::record::Arena;

    #[test]
    fn the_last_error_is_of_this_delivery_or_else_of_an_earlier_round() {
        let record = |headers: Headers, is_retry_topic| {
            let headers = Intake::default().read(Some(headers), None, is_retry_topic);
            let record = Record::new(&mut Arena::default(), 1, None, None, None, headers);
            PendingRecord::new(record)
        };
        let mut headers = Headers::new();
        headers.push("keylane-error", "x".repeat(5_000));
        let error = |pending: &PendingRecord| {
            let error = pending.last_error()?;
            Some(error.as_str().to_owned())
        };
        // A dead letter that was written back: its error is that of another record.
        assert_eq!(error(&record(headers.clone(), false)), None);
        let mut retried = record(headers, true);
        let text = error(&retried).unwrap();
        assert!(text.len() <= 1024 && text.starts_with("xxx"));
        retried.failure = Some(Box::new(FailureHistory {
            attempts: 0,
            first_failure_millis: 1,
            last_failure_millis: 2,
            reason: "",
            class: "".into(),
            error: ErrorText::of("now"),
        }));
        assert_eq!(error(&retried).as_deref(), Some("now"));
    }
}
