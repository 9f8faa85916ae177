//! Dead letters in the headers of other programs' conventions. Pure.

use std::collections::BTreeSet;

use bytes::Bytes;
use keylane_core::FailureHeaders;

use super::header_names::names_of;
use super::headers::{FailureHistory, Writer, error_class, group_as_written};
use super::names;
use crate::Headers;
use crate::config::HeaderConvention;
use crate::record::Origin;

/// What a convention's headers say.
pub(super) struct Failure<'a> {
    pub(super) origin: &'a Origin,
    pub(super) origin_timestamp: Option<i64>,
    pub(super) writer: Writer<'a>,
    pub(super) history: &'a FailureHistory,
}

/// Appends the headers of each convention, and the names of those in `keylane-headers`.
///
/// A convention of which the record names a topic of its own is left out: a mixture of two failures
/// would be read as one. In a dead letter that has to be smaller, keylane's own headers come first.
pub(super) fn push(headers: &mut Headers, failure: &Failure<'_>, which: FailureHeaders) {
    if which != FailureHeaders::All {
        return;
    }
    let mut written = Vec::new();
    for &convention in failure.writer.conventions {
        let fields = fields(convention, failure)
            .into_iter()
            .filter_map(|(name, value)| Some((format!("{}{name}", prefix(convention)), value?)));
        let mut fields = fields.peekable();
        // The topic comes first. The group is also on what Spring has only requeued.
        let is_there = fields
            .peek()
            .is_some_and(|(topic, _)| headers.contains(topic));
        if is_there {
            continue;
        }
        for (name, value) in fields {
            headers.push(name, value);
        }
        written.push(convention.as_str());
    }
    if !written.is_empty() {
        headers.push(names::HEADERS, written.join(","));
    }
}

/// The conventions whose headers keylane wrote for an earlier failure of this record.
pub(super) fn written(original: &Headers) -> BTreeSet<HeaderConvention> {
    let names = original.last_str(names::HEADERS).unwrap_or("");
    HeaderConvention::ALL
        .into_iter()
        .filter(|convention| names.split(',').any(|name| name == convention.as_str()))
        .collect()
}

/// What the names of a convention's headers begin with.
pub(super) fn prefix(convention: HeaderConvention) -> &'static str {
    names_of(convention).prefix
}

fn fields(
    convention: HeaderConvention,
    failure: &Failure<'_>,
) -> Vec<(&'static str, Option<Bytes>)> {
    let Origin {
        topic,
        partition,
        offset,
        ..
    } = failure.origin;
    let names = names_of(convention);
    let text = |text: String| Bytes::from(text);
    let timestamp = failure.origin_timestamp;
    let (partition, offset, timestamp) = match names.big_endian {
        true => (
            number(partition.to_be_bytes()),
            number(offset.to_be_bytes()),
            timestamp.map(|millis| number(millis.to_be_bytes())),
        ),
        false => (
            text(partition.to_string()),
            text(offset.to_string()),
            timestamp.map(|millis| text(millis.to_string())),
        ),
    };
    let error = Some(failure.history.error.as_str()).filter(|error| !error.is_empty());
    let mut fields = vec![
        (names.topic, Some(text(topic.to_string()))),
        (names.partition, Some(partition)),
        (names.offset, Some(offset)),
        (names.timestamp, timestamp),
        (
            names.group,
            Some(text(group_as_written(failure.writer.group))),
        ),
        (
            names.attempts,
            Some(text(failure.history.attempts.to_string())),
        ),
        (names.class, error_class(failure.history).map(text)),
        (names.error, error.map(|error| text(error.to_owned()))),
    ];
    fields.retain(|(name, _)| !name.is_empty());
    fields
}

fn number<const N: usize>(bytes: [u8; N]) -> Bytes {
    Bytes::copy_from_slice(&bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::dead_letter_headers;
    use super::super::headers::tests::{
        by, histories, origins, parking_failure, producer_headers, size_bytes,
    };
    use super::*;

    /// `headers.md` promises it to users, for each convention.
    const ADDED_LIMIT_BYTES: usize = 2560;

    fn of(conventions: &[HeaderConvention]) -> BTreeSet<HeaderConvention> {
        conventions.iter().copied().collect()
    }

    fn letter(
        original: &Headers,
        conventions: &[HeaderConvention],
        which: FailureHeaders,
    ) -> Headers {
        let (origin, history) = parking_failure();
        let writer = Writer {
            conventions: &of(conventions),
            ..by("notifier")
        };
        let at = Some(1_763_698_842_000);
        dead_letter_headers(original, &origin, at, writer, &history, which)
    }

    /// Those of one convention, as they lie on the wire.
    fn written_by(headers: &Headers, convention: HeaderConvention) -> Vec<(&str, &[u8])> {
        headers
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix(prefix(convention))?, &**value?)))
            .collect()
    }

    #[test]
    fn each_convention_is_written_byte_for_byte_as_its_readers_expect_it() {
        use HeaderConvention::*;
        let headers = letter(&Headers::new(), &HeaderConvention::ALL, FailureHeaders::All);
        let message = b"gateway said 503 body: busy".as_slice();
        assert_eq!(
            written_by(&headers, Kip1191),
            [
                ("topic", b"parking".as_slice()),
                ("partition", b"3"),
                ("offset", b"42"),
                ("group", b"notifier"),
                ("delivery.count", b"7"),
                ("message", message),
            ]
        );
        assert_eq!(
            written_by(&headers, Spring),
            [
                ("original-topic", b"parking".as_slice()),
                ("original-partition", &[0, 0, 0, 3]),
                ("original-offset", &[0, 0, 0, 0, 0, 0, 0, 42]),
                (
                    "original-timestamp",
                    &[0x00, 0x00, 0x01, 0x9a, 0xa4, 0xa4, 0x99, 0x90]
                ),
                ("original-consumer-group", b"notifier"),
                ("exception-fqcn", b"gateway::Busy"),
                ("exception-message", message),
            ]
        );
        assert_eq!(
            written_by(&headers, Connect),
            [
                ("topic", b"parking".as_slice()),
                ("partition", b"3"),
                ("offset", b"42"),
                ("exception.class.name", b"gateway::Busy"),
                ("exception.message", message),
            ]
        );
        assert_eq!(
            headers.last_str(names::HEADERS),
            Some("kip-1191,spring,connect")
        );
    }

    #[test]
    fn a_letter_that_does_not_fit_loses_the_conventions_first() {
        for which in [FailureHeaders::WithoutError, FailureHeaders::Fewest] {
            let smaller = letter(&Headers::new(), &HeaderConvention::ALL, which);
            for convention in HeaderConvention::ALL {
                assert_eq!(written_by(&smaller, convention), []);
            }
            let plain = letter(&Headers::new(), &[], which);
            assert_eq!(smaller, plain);
        }
    }

    /// Spring's retry topics put the group on a record, and nothing else of this convention.
    #[test]
    fn a_record_that_spring_has_requeued_gets_the_headers_that_spring_reads() {
        let group = "kafka_dlt-original-consumer-group";
        let came: Headers = [(group, "spring's")].into_iter().collect();
        let headers = letter(&came, &[HeaderConvention::Spring], FailureHeaders::All);
        let written = written_by(&headers, HeaderConvention::Spring);
        assert_eq!(
            written[0],
            ("original-consumer-group", b"spring's".as_slice())
        );
        assert_eq!(written[1], ("original-topic", b"parking".as_slice()));
        assert_eq!(headers.last_str(group), Some("notifier"));
    }

    #[test]
    fn headers_that_the_record_came_with_are_kept_and_those_of_an_earlier_letter_replaced() {
        use HeaderConvention::*;
        let came: Headers = [("kafka_dlt-original-topic", "before")]
            .into_iter()
            .collect();
        let once = letter(&came, &[Spring, Connect], FailureHeaders::All);
        assert_eq!(
            written_by(&once, Spring),
            [("original-topic", b"before".as_slice())]
        );
        assert_eq!(once.last_str(names::HEADERS), Some("connect"));

        let neither = letter(&once, &[], FailureHeaders::All);
        assert_eq!(written_by(&neither, Connect), []);
        assert_eq!(written_by(&neither, Spring), written_by(&once, Spring));
        assert_eq!(neither.last_str(names::HEADERS), None);
    }

    proptest! {
        #[test]
        fn a_convention_adds_no_more_than_its_limit_and_an_earlier_letters_are_replaced(
            original in producer_headers(), origin in origins(), history in histories(), group in any::<String>(),
        ) {
            let letter = |original: &Headers, conventions: &[HeaderConvention]| {
                let writer = Writer { conventions: &of(conventions), ..by(&group) };
                dead_letter_headers(original, &origin, Some(i64::MIN), writer, &history, FailureHeaders::All)
            };
            let plain = letter(&original, &[]);
            for convention in HeaderConvention::ALL {
                let with = letter(&original, &[convention]);
                prop_assert!(size_bytes(&with) <= size_bytes(&plain) + ADDED_LIMIT_BYTES);
                prop_assert_eq!(&letter(&with, &[convention]), &with);
                prop_assert_eq!(&letter(&with, &[]), &plain);
            }
        }
    }
}
