//! Which program wrote a record of a retry topic.

use keylane_core::Provenance;

use super::names;
use crate::Headers;
use crate::config::NAME_LIMIT_BYTES;
use crate::record::Record;

/// Who wrote it, as a record of a retry topic.
pub(crate) fn provenance_of(record: &Record) -> Provenance<'_> {
    let requeued = record.retry_state().is_some_and(|retry| retry.requeued);
    provenance(record.headers(), requeued)
}

/// Reads it from the headers.
pub(crate) fn provenance(headers: &Headers, requeued: bool) -> Provenance<'_> {
    let Some(group) = headers
        .last_str(names::GROUP)
        .filter(|group| may_be_ours(group))
    else {
        return Provenance::default();
    };
    Provenance {
        group: Some(group),
        origin_topic: headers.last_str(names::ORIGIN_TOPIC),
        requeued,
    }
}

/// Whether [`group_as_written`](super::group_as_written) can have made it. What it cannot have made
/// is no group's name: it is not shown, and nothing waits for such a group.
fn may_be_ours(group: &str) -> bool {
    !group.is_empty() && group.len() <= NAME_LIMIT_BYTES && !group.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::super::headers::tests::{by, parking_failure};
    use super::super::{Round, dead_letter_headers, read_retry_state, retry_headers};
    use super::*;
    use crate::record::TaskMetadata;

    const PRODUCERS: TaskMetadata = TaskMetadata {
        timestamp_millis: 5,
        source_application_id: String::new(),
        source_instance_id: String::new(),
        retry_count: 0,
        scheduled_time_millis: 60,
    };

    fn with(metadata: &TaskMetadata) -> Headers {
        let mut headers = Headers::new();
        headers.push("dt_meta", metadata.clone().encode());
        headers
    }

    fn retried(group: &str, round: u32, due: i64) -> Headers {
        let (origin, history) = parking_failure();
        let writer = by(group);
        retry_headers(
            &with(&PRODUCERS),
            &origin,
            Some(5),
            writer,
            &history,
            Round {
                number: round,
                due_millis: due,
                retried_for: std::time::Duration::ZERO,
            },
            Some(&PRODUCERS),
        )
    }

    fn read(headers: &Headers) -> Provenance<'_> {
        let metadata = headers
            .last("dt_meta")
            .and_then(|bytes| TaskMetadata::decode(bytes).ok());
        let state = read_retry_state(headers, metadata.as_ref(), None);
        provenance(headers, state.requeued)
    }

    /// As Decaton does: it keeps all headers, and puts its own metadata in the place of every
    /// other.
    fn requeued(headers: &Headers, count: i64, due: i64) -> Headers {
        let metadata = TaskMetadata {
            retry_count: count,
            scheduled_time_millis: due,
            ..PRODUCERS
        };
        let mut requeued = Headers::new();
        for (name, value) in headers.iter().filter(|(name, _)| *name != "dt_meta") {
            requeued.push(name, value.cloned().unwrap_or_default());
        }
        requeued.push("dt_meta", metadata.clone().encode());
        requeued
    }

    #[test]
    fn a_retry_as_keylane_wrote_it_names_its_group_and_origin() {
        let headers = retried("billing", 2, 77);
        let provenance = read(&headers);
        assert_eq!(
            (provenance.group, provenance.origin_topic),
            (Some("billing"), Some("parking"))
        );
        assert!(!provenance.requeued);
    }

    #[test]
    fn another_count_or_time_in_the_metadata_means_that_it_was_requeued_since() {
        let headers = retried("billing", 2, 77);
        assert!(!read(&requeued(&headers, 2, 77)).requeued);
        assert!(read(&requeued(&headers, 3, 77)).requeued);
        assert!(read(&requeued(&headers, 2, 78)).requeued);
    }

    #[test]
    fn a_dead_letter_that_was_copied_to_the_retry_topic_counts_as_its_groups_until_it_is_requeued()
    {
        let (origin, history) = parking_failure();
        let writer = by("billing");
        let dead = dead_letter_headers(
            &with(&PRODUCERS),
            &origin,
            Some(5),
            writer,
            &history,
            keylane_core::FailureHeaders::All,
        );
        assert_eq!(
            (read(&dead).group, read(&dead).requeued),
            (Some("billing"), false)
        );
        assert!(read(&requeued(&dead, 1, 90)).requeued);
    }

    #[test]
    fn a_record_without_the_groups_header_says_nothing() {
        for headers in [Headers::new(), with(&PRODUCERS)] {
            assert_eq!(read(&headers).group, None);
        }
    }

    /// keylane writes none of these. `Retry::adopt` takes no empty name, and the others are no
    /// names to show or to ask the brokers about.
    #[test]
    fn a_group_that_keylane_would_not_have_written_says_nothing() {
        for group in [
            "",
            "a\nb",
            "a\u{85}b",
            &"x".repeat(256),
            &"x".repeat(1 << 20),
        ] {
            let mut headers = Headers::new();
            headers.push(names::GROUP, group.to_owned());
            headers.push(names::ORIGIN_TOPIC, "parking");
            let Provenance {
                group: named,
                origin_topic,
                requeued,
            } = read(&headers);
            assert_eq!(
                (named, origin_topic, requeued),
                (None, None, false),
                "{} bytes",
                group.len()
            );
        }
        let mut longest = Headers::new();
        longest.push(names::GROUP, "x".repeat(255));
        assert_eq!(read(&longest).group.map(str::len), Some(255));
    }

    #[test]
    fn a_group_is_named_in_the_header_as_it_is_compared() {
        for group in ["billing".to_owned(), "é".repeat(200), "a\tb".to_owned()] {
            let headers = retried(&group, 1, 7);
            assert_eq!(
                read(&headers).group,
                Some(&*super::super::group_as_written(&group))
            );
        }
    }
}
