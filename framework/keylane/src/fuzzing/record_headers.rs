//! The headers that keylane reads off records, and what becomes of everybody else's.

use std::collections::BTreeSet;

use bytes::Bytes;

use keylane_core::FailureHeaders;

use crate::Headers;
use crate::config::HeaderConvention;
use crate::dead_letter::{
    ErrorText, FailureHistory, Intake, Letter, Round, Writer, WrittenBy, dead_letter_headers,
    provenance, retry_headers,
};
use crate::record::{Origin, OriginLog, RecordHeaders, RetryState, TaskMetadata};

/// The names with a meaning; an index beyond them is the name of another program's header.
const NAMES: [&str; 19] = [
    "keylane-origin-topic",
    "keylane-origin-partition",
    "keylane-origin-offset",
    "keylane-origin-timestamp",
    "keylane-group",
    "keylane-attempts",
    "keylane-first-failure",
    "keylane-last-failure",
    "keylane-reason",
    "keylane-error",
    "keylane-retry-round",
    "keylane-retry-due",
    "dt_meta",
    "",
    "kafka_dlt-original-topic",
    "kafka_dlt-original-offset",
    "keylane-redrive-count",
    "keylane-redrive-id",
    "keylane-origin-log",
];
const ROUND: &str = "keylane-retry-round";

/// Any headers. `bytes` holds one after the other: which name, how long the value is (255: null),
/// and the value.
pub fn record_headers(bytes: &[u8]) {
    let headers = read(bytes);
    let as_retry = read_headers(headers.clone(), true);
    let state = as_retry.retry.clone().expect("of a retry topic");
    assert_read_by_the_book(&headers, &state);
    let as_origin = read_headers(headers.clone(), false);
    assert!(
        as_origin.retry.is_none(),
        "an origin's records have no earlier rounds, whatever their headers are"
    );
    assert_eq!(as_origin.metadata, as_retry.metadata);
    let provenance = provenance(&headers, state.requeued);
    let named = headers.last_str("keylane-group");
    let is_name =
        |group: &&str| !group.is_empty() && group.len() < 256 && !group.contains(char::is_control);
    assert_eq!(
        provenance.group,
        named.filter(is_name),
        "no other header counts"
    );
    assert_letter_by_the_book(&headers);
    assert_sent_on(&headers, &state, as_origin.metadata.as_ref());
}

/// What a dead letter says, read a second time.
fn assert_letter_by_the_book(headers: &Headers) {
    let is_there = |name: &str| headers.iter().any(|(other, _)| other == name);
    let is_ours = is_there("keylane-group") && is_there("keylane-reason") && !is_there(ROUND);
    let is_springs = is_there("kafka_dlt-original-topic");
    let letter = Letter::read(headers);
    assert_eq!(letter.is_some(), is_ours || is_springs);
    let Some(letter) = letter else { return };
    let count = headers
        .last_str("keylane-redrive-count")
        .and_then(|text| text.parse().ok());
    let damaged = if is_there("keylane-redrive-count") {
        u32::MAX
    } else {
        0
    };
    assert_eq!(letter.redrive_count, count.unwrap_or(damaged));
    match letter.written_by {
        WrittenBy::Keylane => {
            assert!(is_ours);
            let attempts = headers.last_str("keylane-attempts");
            assert_eq!(letter.attempts, attempts.and_then(|text| text.parse().ok()));
        }
        // It has no partition here.
        WrittenBy::Spring => assert!(is_springs && letter.origin.is_none()),
        other => panic!("{other:?} wrote none of these"),
    }
    let error = letter.error.unwrap_or_default();
    assert!(error.len() <= 1024 && !error.contains(char::is_control));
}

fn read(mut bytes: &[u8]) -> Headers {
    let mut headers = Headers::new();
    while let [which, length, rest @ ..] = bytes {
        let name = match NAMES.get(usize::from(*which)) {
            Some(name) => (*name).to_owned(),
            None => String::from(char::from(*which)),
        };
        if *length == u8::MAX {
            headers.push_null(name);
            bytes = rest;
        } else {
            let (value, after) = rest.split_at(usize::from(*length).min(rest.len()));
            headers.push(name, Bytes::copy_from_slice(value));
            bytes = after;
        }
    }
    headers
}

fn read_headers(headers: Headers, is_retry_topic: bool) -> RecordHeaders {
    let read = Intake::default().read(Some(headers), None, is_retry_topic);
    read.expect("there are headers")
}

/// What is taken for a number is one, in bounds, in the last header of its name; all else counts as
/// absent.
fn assert_read_by_the_book(headers: &Headers, state: &RetryState) {
    let last = |name: &str| -> Option<&[u8]> {
        headers
            .iter()
            .filter(|(header, _)| *header == name)
            .last()
            .and_then(|(_, value)| value)
            .map(|value| &value[..])
    };
    let number = |name: &str, least: i128, most: i128| {
        last(name)
            .and_then(decimal)
            .filter(|number| (least..=most).contains(number))
    };
    let metadata = last("dt_meta").and_then(|bytes| TaskMetadata::decode(bytes).ok());
    let (has_metadata, metadata) = (metadata.is_some(), metadata.unwrap_or_default());
    let (u32_max, i64_min, i64_max) = (u32::MAX.into(), i64::MIN.into(), i64::MAX.into());

    let own_round = number(ROUND, 0, u32_max);
    let own_attempts = number("keylane-attempts", 0, u32_max);
    let own_due = number("keylane-retry-due", i64_min, i64_max);
    let (count, scheduled) = (
        i128::from(metadata.retry_count),
        i128::from(metadata.scheduled_time_millis),
    );
    let requeued = has_metadata
        && (count != own_round.unwrap_or(0) || own_due.is_some_and(|due| due != scheduled));
    assert_eq!(state.requeued, requeued);
    let count = count.clamp(0, u32_max);
    let (round, attempts) = match own_round {
        Some(own) if requeued => {
            let round = count.max(own + 1).min(u32_max);
            (round, own_attempts.unwrap_or(own) + round - own)
        }
        Some(own) => (own, own_attempts.unwrap_or(own)),
        None => (count, own_attempts.unwrap_or(0).max(count)),
    };
    assert_eq!(i128::from(state.round), round);
    assert_eq!(i128::from(state.attempts), attempts.min(u32_max));
    let decaton_due = Some(scheduled).filter(|due| *due > 0);
    assert_eq!(
        state.due_millis.map(i128::from),
        if requeued {
            decaton_due
        } else {
            own_due.or(decaton_due)
        }
    );
    let retried_for = number("keylane-retried-for", 0, 100 * 24 * 60 * 60 * 1_000).unwrap_or(0);
    assert_eq!(
        i128::try_from(state.retried_for.as_millis()),
        Ok(retried_for)
    );
    assert_eq!(
        state.origin_timestamp.map(i128::from),
        number("keylane-origin-timestamp", i64_min, i64_max)
    );

    let topic = last("keylane-origin-topic").filter(|name| {
        let legal = |byte: &u8| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        (1..=249).contains(&name.len()) && name.iter().all(legal) && *name != b"." && *name != b".."
    });
    let origin = topic.and_then(|topic| {
        let partition = number("keylane-origin-partition", 0, i32::MAX.into())?;
        Some((
            topic.to_vec(),
            partition,
            number("keylane-origin-offset", 0, i64_max)?,
        ))
    });
    let read = state.origin.as_ref().map(|origin| {
        (
            origin.topic.as_bytes().to_vec(),
            i128::from(origin.partition),
            i128::from(origin.offset),
        )
    });
    assert_eq!(read, origin, "whole or not at all");
}

/// A sign or none, then digits, then nothing.
fn decimal(text: &[u8]) -> Option<i128> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0_i128, |value, digit| {
        value
            .saturating_mul(10)
            .saturating_add(i128::from(digit - b'0')) // more than any bound is still more
    });
    Some(if negative { -value } else { value })
}

const WRITER: Writer<'_> = Writer {
    group: "group",
    epoch: Some("1/member"),
    retry_topic: None,
    conventions: &NO_CONVENTIONS,
};

static NO_CONVENTIONS: BTreeSet<HeaderConvention> = BTreeSet::new();

/// On to the retry topic and from there to the dead-letter topic: the past is read back, everybody
/// else's headers are as they were, and nothing grows.
fn assert_sent_on(original: &Headers, state: &RetryState, metadata: Option<&TaskMetadata>) {
    let origin = state.origin.clone().unwrap_or(Origin {
        log: OriginLog::default(),
        topic: "parking".into(),
        partition: 0,
        offset: i64::MAX,
    });
    let millis = state.first_failure_millis.unwrap_or(0);
    let history = FailureHistory {
        attempts: state.attempts,
        first_failure_millis: millis,
        last_failure_millis: state.due_millis.unwrap_or(i64::MIN),
        reason: "exhausted",
        class: "".into(),
        error: ErrorText::of(&String::from_utf8_lossy(
            original
                .last("keylane-error")
                .map_or(&b"\0"[..], |text| &text[..]),
        )),
    };
    let timestamp = state.origin_timestamp;
    let due = state.due_millis.unwrap_or(i64::MAX);
    let round = state.round.max(1);
    let retried_for = state.retried_for;

    let this = Round {
        number: round,
        due_millis: due,
        retried_for,
    };
    let retried = retry_headers(
        original, &origin, timestamp, WRITER, &history, this, metadata,
    );
    let expected = RetryState {
        round,
        attempts: state.attempts,
        due_millis: Some(due),
        requeued: false,
        retried_for,
        origin: Some(origin.clone()),
        origin_timestamp: timestamp,
        first_failure_millis: Some(millis),
    };
    let read = read_headers(retried.clone(), true);
    assert_eq!(read.retry, Some(expected));
    let decaton = retried
        .last("dt_meta")
        .map(|bytes| TaskMetadata::decode(bytes).expect("ours"));
    let decaton = decaton.expect("every retry has one");
    assert_eq!(
        (decaton.retry_count, decaton.scheduled_time_millis),
        (i64::from(round), due)
    );
    let theirs = provenance(&retried, false);
    assert_eq!(
        (theirs.group, theirs.requeued),
        (Some(WRITER.group), false),
        "taken for another's, or requeued"
    );
    if let Some(own) = metadata {
        assert_eq!(decaton.source_application_id, own.source_application_id);
        assert_eq!(
            (decaton.timestamp_millis, decaton.source_instance_id),
            (own.timestamp_millis, own.source_instance_id.clone())
        );
    }

    let dead = dead_letter_headers(
        &retried,
        &origin,
        timestamp,
        WRITER,
        &history,
        FailureHeaders::All,
    );
    assert_eq!(
        dead,
        dead_letter_headers(
            original,
            &origin,
            timestamp,
            WRITER,
            &history,
            FailureHeaders::All
        ),
        "the retry left a trace"
    );
    // What looks like keylane's own retry is one.
    if original.last(ROUND).is_none() || state.requeued {
        assert_eq!(foreign(&dead), foreign(original));
    }
    let added = |headers: &Headers| {
        headers
            .iter()
            .map(|(name, value)| name.len() + value.map_or(0, Bytes::len))
            .sum::<usize>()
    };
    assert!(added(&dead) <= added(original) + 4096);
}

fn foreign(headers: &Headers) -> Vec<(&str, Option<&Bytes>)> {
    headers
        .iter()
        .filter(|(name, _)| !name.starts_with("keylane-"))
        .collect()
}
