//! The headers of a dead letter. Pure: what is written depends on the arguments alone.

use std::borrow::Cow;
use std::collections::BTreeSet;

use keylane_core::FailureHeaders;

use super::bounded_text::{ErrorText, bounded_text};
use super::retry_headers::{last_metadata, wrote};
use super::{conventions, names};
use crate::Headers;
use crate::config::{HeaderConvention, NAME_LIMIT_BYTES};
use crate::record::Origin;
use crate::support::rfc3339;

/// The failures of a record, over all its attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FailureHistory {
    /// Attempts made, in place and through the retry topic.
    pub(crate) attempts: u32,
    pub(crate) first_failure_millis: i64,
    pub(crate) last_failure_millis: i64,
    /// One short word: `exhausted`, `fatal`, `undecodable`, `panic`, `timeout`, …
    pub(crate) reason: &'static str,
    /// The last error's class; empty where there was no error.
    pub(crate) class: Cow<'static, str>,
    /// The last error's text.
    pub(crate) error: ErrorText,
}

/// Who writes a retry or dead letter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Writer<'a> {
    pub(crate) group: &'a str,
    /// The assignment, in the group's terms: its generation and the member, `17/rdkafka-…`. `None`
    /// where the client does not report it.
    pub(crate) epoch: Option<&'a str>,
    /// The group's retry topic.
    pub(crate) retry_topic: Option<&'a str>,
    /// In whose headers dead letters are written too.
    pub(crate) conventions: &'a BTreeSet<HeaderConvention>,
}

/// The headers of a dead letter: the record's own as they were, then ours, then those of other
/// conventions.
///
/// `origin` and `origin_timestamp` are where the record was read *first*: for a record from the
/// retry topic they come from [`super::read_retry_state`]. Its retry headers are removed.
pub(crate) fn dead_letter_headers(
    original: &Headers,
    origin: &Origin,
    origin_timestamp: Option<i64>,
    writer: Writer<'_>,
    history: &FailureHistory,
    which: FailureHeaders,
) -> Headers {
    let mut headers = without_ours(original);
    push_failure(
        &mut headers,
        origin,
        origin_timestamp,
        writer,
        history,
        which,
    );
    if which == FailureHeaders::Fewest {
        return headers;
    }
    if let Some(topic) = writer.retry_topic {
        headers.push(names::RETRY_TOPIC, bounded_text(topic, NAME_LIMIT_BYTES));
    }
    let failure = conventions::Failure {
        origin,
        origin_timestamp,
        writer,
        history,
    };
    conventions::push(&mut headers, &failure, which);
    headers
}

/// The headers of others: all but keylane's own, and but the `dt_meta` that keylane appended.
///
/// Where the last `dt_meta` is not keylane's, another program has requeued the record since, and has
/// put it in the place of keylane's and of the producer's.
pub(super) fn without_ours(original: &Headers) -> Headers {
    let ours_at = last_metadata(original)
        .filter(|last| wrote(original, last))
        .and_then(|_| {
            original
                .iter()
                .enumerate()
                .filter(|(_, (name, _))| *name == names::DECATON_METADATA)
                .last()
        })
        .map(|(at, _)| at);

    let conventions = conventions::written(original);
    let mut kept = Headers::new();
    for (at, (name, value)) in original.iter().enumerate() {
        let is_of_earlier_letter = |&it| name.starts_with(conventions::prefix(it));
        if names::OURS.contains(&name)
            || ours_at == Some(at)
            || conventions.iter().any(is_of_earlier_letter)
        {
            continue;
        }
        match value {
            Some(value) => kept.push(name, value.clone()),
            None => kept.push_null(name),
        }
    }
    kept
}

/// A group's name as headers have it.
pub(crate) fn group_as_written(group: &str) -> String {
    bounded_text(group, NAME_LIMIT_BYTES)
}

/// The error's class as headers have it.
pub(super) fn error_class(history: &FailureHistory) -> Option<String> {
    Some(&history.class)
        .filter(|class| !class.is_empty())
        .map(|class| bounded_text(class, NAME_LIMIT_BYTES))
}

/// Appends where the record was read first, and the group that it belongs to.
pub(crate) fn push_origin(
    headers: &mut Headers,
    origin: Option<&Origin>,
    origin_timestamp: Option<i64>,
    group: Option<&str>,
) {
    if let Some(origin) = origin {
        headers.push(names::ORIGIN_TOPIC, origin.topic.to_string());
        headers.push(names::ORIGIN_PARTITION, origin.partition.to_string());
        headers.push(names::ORIGIN_OFFSET, origin.offset.to_string());
        if !origin.log.is_unknown() {
            headers.push(names::ORIGIN_LOG, origin.log.to_string());
        }
    }
    if let Some(timestamp) = origin_timestamp {
        headers.push(names::ORIGIN_TIMESTAMP, timestamp.to_string());
    }
    if let Some(group) = group {
        headers.push(names::GROUP, group_as_written(group));
    }
}

/// Appends what dead letters and retried records have in common.
pub(super) fn push_failure(
    headers: &mut Headers,
    origin: &Origin,
    origin_timestamp: Option<i64>,
    writer: Writer<'_>,
    history: &FailureHistory,
    which: FailureHeaders,
) {
    push_origin(headers, Some(origin), origin_timestamp, Some(writer.group));
    if which == FailureHeaders::Fewest {
        headers.push(names::REASON, history.reason);
        return;
    }
    if let Some(epoch) = writer.epoch {
        headers.push(names::EPOCH, bounded_text(epoch, NAME_LIMIT_BYTES));
    }
    headers.push(names::ATTEMPTS, history.attempts.to_string());
    headers.push(
        names::FIRST_FAILURE,
        rfc3339::format_millis(history.first_failure_millis),
    );
    headers.push(
        names::LAST_FAILURE,
        rfc3339::format_millis(history.last_failure_millis),
    );
    headers.push(names::REASON, history.reason);
    if let Some(class) = error_class(history) {
        headers.push(names::ERROR_CLASS, class);
    }
    if which == FailureHeaders::All {
        headers.push(names::ERROR, history.error.as_str().to_owned());
    }
}

#[cfg(test)]
pub(super) mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::super::FailedRecordId;
    use super::*;
    use crate::record::OriginLog;

    /// `headers.md` promises it to users.
    pub(in crate::dead_letter) const ADDED_LIMIT_BYTES: usize = 4096;

    pub(in crate::dead_letter) fn size_bytes(headers: &Headers) -> usize {
        headers
            .iter()
            .map(|(name, value)| name.len() + value.map_or(0, Bytes::len))
            .sum()
    }

    /// A writer whose member's name is as long as its group's.
    pub(in crate::dead_letter) fn by(group: &str) -> Writer<'_> {
        Writer {
            group,
            epoch: Some(group),
            retry_topic: Some(group),
            conventions: &NONE,
        }
    }

    pub(in crate::dead_letter) static NONE: BTreeSet<HeaderConvention> = BTreeSet::new();

    /// The producer's headers in order, as a retry or dead letter must keep them.
    pub(in crate::dead_letter) fn foreign(headers: &Headers) -> Vec<(String, Option<Bytes>)> {
        let foreign = headers
            .iter()
            .filter(|(name, _)| !names::OURS.contains(name));
        foreign
            .map(|(name, value)| (name.to_owned(), value.cloned()))
            .collect()
    }

    /// Headers as a producer may write them: any bytes, nulls, repeated names, `dt_meta` among
    /// them.
    pub(in crate::dead_letter) fn producer_headers() -> impl Strategy<Value = Headers> {
        let name = prop_oneof![
            Just("dt_meta".to_owned()),
            Just("keylane-other".to_owned()),
            "[a-c]{0,2}",
            any::<String>()
        ];
        let value = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20));
        proptest::collection::vec((name, value), 0..8).prop_map(|all| {
            let mut headers = Headers::new();
            for (name, value) in all {
                match value {
                    Some(value) => headers.push(name, value),
                    None => headers.push_null(name),
                }
            }
            headers
        })
    }

    pub(in crate::dead_letter) fn origins() -> impl Strategy<Value = Origin> {
        let topic_id = any::<Option<u64>>();
        let leader_epoch = proptest::option::of(0..=i32::MAX);
        (
            "[a-zA-Z0-9._-]{3,249}",
            0..i32::MAX,
            0..i64::MAX,
            (topic_id, leader_epoch),
        )
            .prop_map(
                |(topic, partition, offset, (topic_id, leader_epoch))| Origin {
                    topic: topic.into(),
                    partition,
                    offset,
                    log: OriginLog {
                        topic_id,
                        leader_epoch,
                    },
                },
            )
    }

    pub(in crate::dead_letter) fn histories() -> impl Strategy<Value = FailureHistory> {
        let reason = prop_oneof![Just("exhausted"), Just("undecodable")];
        let error = prop_oneof![any::<String>(), "\\PC{900,1200}"];
        let class = prop_oneof![Just(String::new()), any::<String>(), "\\PC{200,400}"];
        (
            any::<u32>(),
            any::<i64>(),
            any::<i64>(),
            reason,
            class,
            error,
        )
            .prop_map(
                |(attempts, first, last, reason, class, error)| FailureHistory {
                    attempts,
                    first_failure_millis: first,
                    last_failure_millis: last,
                    reason,
                    class: class.into(),
                    error: ErrorText::of(&error),
                },
            )
    }

    pub(in crate::dead_letter) fn parking_failure() -> (Origin, FailureHistory) {
        let origin = Origin {
            topic: "parking".into(),
            partition: 3,
            offset: 42,
            log: OriginLog::read("0123456789abcdef/7"),
        };
        let history = FailureHistory {
            attempts: 7,
            first_failure_millis: 1_763_698_843_017,
            last_failure_millis: 1_763_698_900_000,
            reason: "exhausted",
            class: "gateway::Busy".into(),
            error: ErrorText::of("gateway said 503\nbody: busy"),
        };
        (origin, history)
    }

    #[test]
    fn a_dead_letter_says_where_why_and_when_in_plain_text() {
        let (origin, history) = parking_failure();
        let mut original: Headers = [("traceparent", "00-ab")].into_iter().collect();
        original.push_null("empty");
        let writer = Writer {
            group: "notifier",
            epoch: Some("17/gate-1"),
            retry_topic: Some("parking-retry"),
            conventions: &NONE,
        };
        let headers = dead_letter_headers(
            &original,
            &origin,
            Some(1_763_698_842_000),
            writer,
            &history,
            FailureHeaders::All,
        );
        let lines: Vec<_> = headers
            .iter()
            .map(|(name, value)| {
                format!(
                    "{name}={}",
                    value.map_or("null", |v| std::str::from_utf8(v).expect("ours are text"))
                )
            })
            .collect();
        assert_eq!(
            lines,
            [
                "traceparent=00-ab",
                "empty=null",
                "keylane-origin-topic=parking",
                "keylane-origin-partition=3",
                "keylane-origin-offset=42",
                "keylane-origin-log=0123456789abcdef/7",
                "keylane-origin-timestamp=1763698842000",
                "keylane-group=notifier",
                "keylane-epoch=17/gate-1",
                "keylane-attempts=7",
                "keylane-first-failure=2025-11-21T04:20:43.017Z",
                "keylane-last-failure=2025-11-21T04:21:40.000Z",
                "keylane-reason=exhausted",
                "keylane-error-class=gateway::Busy",
                "keylane-error=gateway said 503 body: busy",
                "keylane-retry-topic=parking-retry",
            ]
        );
    }

    /// Point 9: the ways to make a dead letter smaller. What identifies it, and why it is there,
    /// stays.
    #[test]
    fn with_fewer_headers_origin_group_and_reason_are_left() {
        let (origin, history) = parking_failure();
        let original: Headers = [("own", "1")].into_iter().collect();
        let with = |which| {
            dead_letter_headers(&original, &origin, Some(5), by("notifier"), &history, which)
        };
        let names = |headers: &Headers| {
            headers
                .iter()
                .map(|(name, _)| name.to_owned())
                .collect::<Vec<_>>()
        };
        let (all, without) = (
            with(FailureHeaders::All),
            with(FailureHeaders::WithoutError),
        );
        let mut but_the_error = names(&all);
        but_the_error.retain(|name| name != names::ERROR);
        assert_ne!(names(&all), but_the_error);
        assert_eq!(names(&without), but_the_error);
        let fewest = with(FailureHeaders::Fewest);
        let kept = [
            "own",
            names::ORIGIN_TOPIC,
            names::ORIGIN_PARTITION,
            names::ORIGIN_OFFSET,
            names::ORIGIN_LOG,
        ];
        let kept = [
            &kept[..],
            &[names::ORIGIN_TIMESTAMP, names::GROUP, names::REASON],
        ]
        .concat();
        assert_eq!(names(&fewest), kept);
        assert_eq!(FailedRecordId::read(&fewest), FailedRecordId::read(&all));
    }

    #[test]
    fn every_header_that_is_written_is_explained_to_users_and_the_other_way_round() {
        let explained = include_str!("headers.md");
        for name in names::OURS {
            assert!(
                explained.contains(&format!("| `{name}` |")),
                "{name} is missing in headers.md"
            );
        }
        let of_redrive = [names::REDRIVE_COUNT, names::REDRIVE_ID, names::EDITED_FROM];
        for name in of_redrive {
            assert!(explained.contains(&format!("| `{name}` |")), "{name}");
        }
        let of_producers = [crate::record::message_id::HEADER];
        for name in of_producers {
            assert!(explained.contains(&format!("| `{name}` |")), "{name}");
        }
        let all = names::OURS.len() + of_redrive.len() + of_producers.len();
        assert_eq!(explained.matches("| `keylane-").count(), all);
    }

    proptest! {
        #[test]
        fn the_producers_headers_arrive_bit_for_bit(
            original in producer_headers(), origin in origins(), history in histories(), group in any::<String>(),
        ) {
            let headers = dead_letter_headers(&original, &origin, Some(1), by(&group), &history, FailureHeaders::All);
            prop_assert_eq!(foreign(&headers), foreign(&original));
        }

        #[test]
        fn a_dead_letter_that_fails_again_does_not_grow(
            original in producer_headers(), origin in origins(), history in histories(), group in any::<String>(),
        ) {
            let once = dead_letter_headers(&original, &origin, Some(i64::MIN), by(&group), &history, FailureHeaders::All);
            let twice = dead_letter_headers(&once, &origin, Some(i64::MIN), by(&group), &history, FailureHeaders::All);
            prop_assert!(size_bytes(&once) <= size_bytes(&original) + ADDED_LIMIT_BYTES);
            prop_assert_eq!(once, twice);
        }
    }
}
