//! The headers of a record on the retry topic, written and read back.

use std::time::Duration;

use keylane_core::{DecatonRetry, FailureHeaders, LastRetry, OwnRetry, SpringRetry};

use super::headers::{FailureHistory, Writer, push_failure, without_ours};
use super::names;
use crate::Headers;
use crate::record::{Origin, OriginLog, RetryState, TaskMetadata};
use crate::support::rfc3339;

/// Longer than any retry time, patience and delay together: a header with more is damaged.
const MOST_RETRIED_FOR: Duration = Duration::from_secs(100 * 24 * 60 * 60);

/// A round that a record makes through the retry topic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    /// The round's number, from 1.
    pub(crate) number: u32,
    /// Not to be tried before this time.
    pub(crate) due_millis: i64,
    /// How much of its retry time is used up.
    pub(crate) retried_for: Duration,
}

/// The headers of a record on its way to the retry topic: the producer's own as they were, then
/// ours.
///
/// `metadata` is the last `dt_meta` of `original`. As with [`super::dead_letter_headers`], `origin`
/// is where the record was read first.
pub(crate) fn retry_headers(
    original: &Headers,
    origin: &Origin,
    origin_timestamp: Option<i64>,
    writer: Writer<'_>,
    history: &FailureHistory,
    round: Round,
    metadata: Option<&TaskMetadata>,
) -> Headers {
    let Round {
        number,
        due_millis,
        retried_for,
    } = round;
    let mut headers = without_ours(original);
    push_failure(
        &mut headers,
        origin,
        origin_timestamp,
        writer,
        history,
        FailureHeaders::All,
    );
    headers.push(names::RETRY_ROUND, number.to_string());
    headers.push(names::RETRY_DUE, due_millis.to_string());
    headers.push(
        names::RETRIED_FOR,
        retried_for.min(MOST_RETRIED_FOR).as_millis().to_string(),
    );
    // Appended, not replaced: the last one counts, and the producer's own is still there for the
    // dead letter.
    let metadata = TaskMetadata {
        retry_count: i64::from(number),
        scheduled_time_millis: due_millis,
        ..metadata
            .cloned()
            .unwrap_or_else(|| made_at(origin_timestamp))
    };
    headers.push(names::DECATON_METADATA, metadata.encode());
    headers
}

/// Reads the earlier rounds from the headers; `metadata` is their last `dt_meta`, or that of the
/// wrapper.
///
/// Only for records of a retry topic: a dead letter that was copied back to its origin topic still
/// names its old attempts.
pub(crate) fn read_retry_state(
    headers: &Headers,
    metadata: Option<&TaskMetadata>,
    spring: Option<SpringRetry>,
) -> RetryState {
    let LastRetry {
        round,
        attempts,
        due_millis,
        requeued,
    } = own_retry(headers).last_retry(metadata.map(decaton_retry), spring);
    RetryState {
        round,
        attempts,
        due_millis,
        requeued,
        retried_for: retried_for(headers),
        origin: origin(headers),
        origin_timestamp: number(headers, names::ORIGIN_TIMESTAMP),
        first_failure_millis: headers
            .last_str(names::FIRST_FAILURE)
            .and_then(rfc3339::parse_millis),
    }
}

fn own_retry(headers: &Headers) -> OwnRetry {
    OwnRetry {
        round: number(headers, names::RETRY_ROUND),
        attempts: number(headers, names::ATTEMPTS),
        due_millis: number(headers, names::RETRY_DUE),
    }
}

fn decaton_retry(metadata: &TaskMetadata) -> DecatonRetry {
    DecatonRetry {
        retry_count: metadata.retry_count,
        scheduled_time_millis: metadata.scheduled_time_millis,
    }
}

/// Whether keylane wrote this metadata, together with its own among these headers.
pub(super) fn wrote(headers: &Headers, metadata: &TaskMetadata) -> bool {
    own_retry(headers).wrote(decaton_retry(metadata))
}

/// The last `dt_meta`, where it is well-formed.
pub(crate) fn last_metadata(headers: &Headers) -> Option<TaskMetadata> {
    TaskMetadata::decode(headers.last(names::DECATON_METADATA)?).ok()
}

/// keylane's own, for a record that came without `dt_meta`: Decaton takes its age from there.
pub(super) fn made_at(origin_timestamp: Option<i64>) -> TaskMetadata {
    TaskMetadata {
        timestamp_millis: origin_timestamp.unwrap_or(0),
        ..TaskMetadata::default()
    }
}

fn retried_for(headers: &Headers) -> Duration {
    let written = number(headers, names::RETRIED_FOR).map(Duration::from_millis);
    written
        .filter(|time| *time <= MOST_RETRIED_FOR)
        .unwrap_or_default()
}

pub(super) fn number<N: std::str::FromStr>(headers: &Headers, name: &str) -> Option<N> {
    headers.last_str(name)?.parse().ok()
}

/// The origin, whole or not at all: half of it would point at some other record.
pub(super) fn origin(headers: &Headers) -> Option<Origin> {
    let topic = headers
        .last_str(names::ORIGIN_TOPIC)
        .filter(|topic| keylane_core::check_topic_name(topic).is_ok())?;
    let partition =
        number(headers, names::ORIGIN_PARTITION).filter(|partition: &i32| *partition >= 0)?;
    let offset = number(headers, names::ORIGIN_OFFSET).filter(|offset: &i64| *offset >= 0)?;
    Some(Origin {
        topic: topic.into(),
        partition,
        offset,
        log: origin_log(headers),
    })
}

/// Unknown where an older keylane or another program wrote the record.
pub(super) fn origin_log(headers: &Headers) -> OriginLog {
    headers
        .last_str(names::ORIGIN_LOG)
        .map(OriginLog::read)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::headers::tests::*;
    use super::super::{FailedRecordId, dead_letter_headers};
    use bytes::Bytes;

    use super::*;
    use crate::dead_letter::ErrorText;

    fn round(number: u32, due_millis: i64) -> Round {
        Round {
            number,
            due_millis,
            retried_for: Duration::from_secs(1),
        }
    }

    fn state_of(headers: &Headers) -> RetryState {
        read_retry_state(headers, last_metadata(headers).as_ref(), None)
    }

    /// As Decaton requeues a record: it keeps all headers but `dt_meta`, and writes one of its own.
    fn requeued_by_decaton(headers: &Headers, back_off_millis: i64) -> Headers {
        let metadata = last_metadata(headers).expect("a task of Decaton's");
        let metadata = TaskMetadata {
            retry_count: metadata.retry_count + 1,
            scheduled_time_millis: metadata.scheduled_time_millis + back_off_millis,
            ..metadata
        };
        let mut requeued = headers.clone();
        requeued.remove("dt_meta");
        requeued.push("dt_meta", metadata.encode());
        requeued
    }

    #[test]
    fn damaged_values_count_as_absent() {
        let headers: Headers = [
            ("keylane-retry-round", "minus one"),
            ("keylane-attempts", "-3"),
            ("keylane-retry-due", "99999999999999999999"),
            ("keylane-retried-for", "1.5"),
            ("keylane-origin-topic", "parking"),
            ("keylane-origin-partition", "-1"),
            ("keylane-origin-offset", "5"),
            ("keylane-origin-timestamp", ""),
            ("keylane-first-failure", "yesterday"),
            ("dt_meta", "\u{7f}\u{7f}"),
        ]
        .into_iter()
        .collect();
        assert_eq!(state_of(&headers), RetryState::default());
    }

    #[test]
    fn a_retry_time_that_cannot_be_is_none_and_a_first_failure_in_the_future_is_now() {
        let bound = MOST_RETRIED_FOR.as_millis();
        let of = |millis: u128| {
            let mut headers = Headers::new();
            headers.push("keylane-retried-for", millis.to_string());
            state_of(&headers).retried_for
        };
        assert_eq!(
            (of(bound), of(bound + 1)),
            (MOST_RETRIED_FOR, Duration::ZERO)
        );
        assert_eq!(of(u64::MAX.into()), Duration::ZERO, "not used up at once");

        let headers: Headers = [("keylane-first-failure", "2999-01-01T00:00:00.000Z")]
            .into_iter()
            .collect();
        let state = state_of(&headers);
        assert!(
            state
                .first_failure_millis
                .is_some_and(|first| first > 1_000)
        );
        assert_eq!(
            (state.first_failure_by(1_000), state.retried_for),
            (Some(1_000), Duration::ZERO)
        );
    }

    #[test]
    fn a_dead_letter_that_is_written_back_has_its_whole_retry_time() {
        let (origin, history) = (
            Origin {
                topic: "t".into(),
                partition: 0,
                offset: 1,
                log: OriginLog::default(),
            },
            failed_once(),
        );
        let retry = retry_headers(
            &Headers::new(),
            &origin,
            None,
            by("g"),
            &history,
            round(4, 77),
            None,
        );
        assert_eq!(state_of(&retry).retried_for, Duration::from_secs(1));
        let dead = dead_letter_headers(
            &retry,
            &origin,
            None,
            by("g"),
            &history,
            FailureHeaders::All,
        );
        let state = state_of(&dead);
        assert_eq!(
            (state.retried_for, state.round, state.due_millis),
            (Duration::ZERO, 0, None)
        );
    }

    #[test]
    fn an_origin_topic_that_kafka_would_not_allow_is_no_origin() {
        for topic in ["", "..", "a b", &"x".repeat(250)] {
            let mut headers: Headers = [
                ("keylane-origin-partition", "1"),
                ("keylane-origin-offset", "5"),
            ]
            .into_iter()
            .collect();
            headers.push("keylane-origin-topic", topic.to_owned());
            assert_eq!(state_of(&headers).origin, None, "{topic:?}");
        }
    }

    #[test]
    fn a_record_of_decatons_retry_topic_keeps_its_round_and_due_time() {
        let metadata = TaskMetadata {
            retry_count: 2,
            scheduled_time_millis: 1_700_000_000_000,
            ..Default::default()
        };
        let mut headers = Headers::new();
        headers.push("dt_meta", metadata.clone().encode());
        let state = state_of(&headers);
        assert_eq!(
            (state.round, state.attempts, state.due_millis),
            (2, 2, Some(1_700_000_000_000))
        );
        assert!(state.requeued);
        assert_eq!(state.origin, None);
    }

    #[test]
    fn a_record_that_keylane_and_then_decaton_requeued_has_decatons_round_and_due_time() {
        let written = TaskMetadata {
            timestamp_millis: 5,
            source_application_id: "gate".to_owned(),
            ..Default::default()
        };
        let mut original = Headers::new();
        original.push("dt_meta", written.clone().encode());
        let (origin, history) = parking_failure();
        let retry = |original: &Headers, number, due| {
            let last = last_metadata(original);
            let round = round(number, due);
            retry_headers(
                original,
                &origin,
                Some(9),
                by("g"),
                &history,
                round,
                last.as_ref(),
            )
        };
        let theirs = requeued_by_decaton(&retry(&original, 1, 1_000), 30_000);
        let state = state_of(&theirs);
        assert_eq!(
            (state.round, state.attempts, state.due_millis),
            (2, history.attempts + 1, Some(31_000))
        );
        assert_eq!(
            (state.origin.as_ref(), state.origin_timestamp),
            (Some(&origin), Some(9))
        );

        let again = retry(&theirs, 3, 90_000);
        assert_eq!(state_of(&again).round, 3);
        let read = FailedRecordId::read;
        assert_ne!(read(&theirs), read(&again));
        let dead = dead_letter_headers(
            &again,
            &origin,
            Some(9),
            by("g"),
            &history,
            FailureHeaders::All,
        );
        let producers = TaskMetadata {
            retry_count: 2,
            scheduled_time_millis: 31_000,
            ..written
        };
        assert_eq!(
            foreign(&dead),
            [("dt_meta".to_owned(), Some(producers.encode()))],
            "as Decaton left it"
        );
    }

    #[test]
    fn decaton_reads_the_round_and_the_due_time_and_the_producers_own_words() {
        let written = TaskMetadata {
            timestamp_millis: 5,
            source_application_id: "gate".to_owned(),
            source_instance_id: "gate-1".to_owned(),
            ..Default::default()
        };
        let mut original = Headers::new();
        original.push("dt_meta", written.clone().encode());
        let (origin, history) = (
            Origin {
                topic: "t".into(),
                partition: 0,
                offset: 1,
                log: OriginLog::default(),
            },
            failed_once(),
        );
        let headers = retry_headers(
            &original,
            &origin,
            Some(9),
            by("g"),
            &history,
            round(4, 77),
            Some(&written),
        );
        let expected = TaskMetadata {
            retry_count: 4,
            scheduled_time_millis: 77,
            ..written
        };
        assert_eq!(last_metadata(&headers), Some(expected));

        let without = retry_headers(
            &Headers::new(),
            &origin,
            Some(9),
            by("g"),
            &history,
            round(1, 77),
            None,
        );
        assert_eq!(
            last_metadata(&without).map(|metadata| metadata.timestamp_millis),
            Some(9)
        );
    }

    fn failed_once() -> FailureHistory {
        FailureHistory {
            attempts: 1,
            first_failure_millis: 1,
            last_failure_millis: 1,
            reason: "fatal",
            class: "".into(),
            error: ErrorText::of("no"),
        }
    }

    proptest! {
        #[test]
        fn the_state_survives_the_round_trip(
            original in producer_headers(), origin in origins(), history in histories(),
            origin_timestamp in any::<Option<i64>>(), round in 1..u32::MAX, due in any::<i64>(),
            retried_for in 0..MOST_RETRIED_FOR.as_secs(),
        ) {
            let metadata = last_metadata(&original);
            let retried_for = Duration::from_secs(retried_for);
            let headers = retry_headers(
                &original, &origin, origin_timestamp, by("g"), &history,
                Round { number: round, due_millis: due, retried_for }, metadata.as_ref(),
            );
            let expected = RetryState {
                round,
                attempts: history.attempts,
                due_millis: Some(due),
                requeued: false,
                retried_for,
                origin: Some(origin),
                origin_timestamp,
                first_failure_millis: Some(history.first_failure_millis.clamp(0, 253_402_300_799_999)),
            };
            prop_assert_eq!(state_of(&headers), expected);
        }

        #[test]
        fn any_number_of_rounds_then_a_dead_letter_leaves_the_producers_headers_as_they_were(
            original in producer_headers(), origin in origins(), history in histories(), rounds in 1..6u32,
            group in any::<String>(),
        ) {
            let mut headers = original.clone();
            for round in 1..=rounds {
                let metadata = last_metadata(&headers);
                headers = retry_headers(
                    &headers, &origin, None, by(&group), &history,
                    Round { number: round, due_millis: i64::MAX, retried_for: Duration::MAX }, metadata.as_ref(),
                );
                let own = original.last("dt_meta").map_or(0, Bytes::len);
                prop_assert!(size_bytes(&headers) <= size_bytes(&original) + ADDED_LIMIT_BYTES + own + 40);
            }
            let first = state_of(&headers).origin.expect("the retry wrote it");
            let dead = dead_letter_headers(&headers, &first, None, by(&group), &history, FailureHeaders::All);
            prop_assert_eq!(foreign(&dead), foreign(&original));
            prop_assert_eq!(dead, dead_letter_headers(&original, &origin, None, by(&group), &history, FailureHeaders::All));
        }

        /// In any order of keylane's and Decaton's retries no round is lost, and what others wrote is
        /// there once, as the last of them left it.
        #[test]
        fn keylane_and_decaton_take_turns(
            mut original in producer_headers(), origin in origins(), history in histories(),
            count in 0..3_i64, scheduled in 0..3_i64, turns in proptest::collection::vec(any::<bool>(), 1..8),
        ) {
            let theirs = TaskMetadata { retry_count: count, scheduled_time_millis: scheduled, ..Default::default() };
            original.push("dt_meta", theirs.encode());
            let mut headers = original.clone();
            let mut left = foreign(&original);
            for (rounds, is_decaton) in (u32::try_from(count).unwrap()..).zip(turns) {
                prop_assert_eq!(state_of(&headers).round, rounds);
                if is_decaton {
                    headers = requeued_by_decaton(&headers, 1);
                    left = foreign(&headers);
                } else {
                    let metadata = last_metadata(&headers);
                    let round = round(rounds + 1, 10 + i64::from(rounds));
                    headers = retry_headers(&headers, &origin, None, by("g"), &history, round, metadata.as_ref());
                }
            }
            let dead = dead_letter_headers(&headers, &origin, None, by("g"), &history, FailureHeaders::All);
            prop_assert_eq!(foreign(&dead), left);
        }

        #[test]
        fn reading_never_fails(headers in producer_headers()) {
            let _ = state_of(&headers);
        }
    }
}
