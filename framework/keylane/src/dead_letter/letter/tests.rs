use keylane_core::FailureHeaders;
use proptest::prelude::*;

use super::super::headers::tests::{by, parking_failure, producer_headers};
use super::super::{Round, Writer, dead_letter_headers, retry_headers};
use super::*;

fn millis(millis: i64) -> Option<SystemTime> {
    time_of(millis)
}

fn parking(partition: i32, offset: i64) -> Option<Origin> {
    Some(Origin {
        topic: "parking".into(),
        partition,
        offset,
        log: crate::record::OriginLog::default(),
    })
}

fn with(headers: &[(&str, &[u8])]) -> Headers {
    headers
        .iter()
        .map(|(name, value)| (*name, value.to_vec()))
        .collect()
}

fn keylanes(original: &Headers, conventions: &[HeaderConvention]) -> Headers {
    let (origin, history) = parking_failure();
    let conventions = conventions.iter().copied().collect();
    let writer = Writer {
        group: "notifier",
        epoch: None,
        retry_topic: Some("parking-retry"),
        conventions: &conventions,
    };
    let at = Some(1_763_698_842_000);
    dead_letter_headers(original, &origin, at, writer, &history, FailureHeaders::All)
}

#[test]
fn keylanes_own_letter_is_read_whole() {
    let letter = Letter {
        origin: Some(parking_failure().0),
        origin_timestamp: millis(1_763_698_842_000),
        group: Some("notifier".to_owned()),
        reason: Some("exhausted".to_owned()),
        error_class: Some("gateway::Busy".to_owned()),
        error: Some("gateway said 503 body: busy".to_owned()),
        attempts: Some(7),
        first_failure: millis(1_763_698_843_017),
        last_failure: millis(1_763_698_900_000),
        retry_topic: Some("parking-retry".to_owned()),
        ..nothing(WrittenBy::Keylane)
    };
    let alone = keylanes(&Headers::new(), &[]);
    assert_eq!(Letter::read(&alone), Some(letter.clone()));
    let with_others = keylanes(&Headers::new(), &HeaderConvention::ALL);
    assert_eq!(Letter::read(&with_others), Some(letter));
}

/// Bytes as the other programs write them: `facts/interop.md`, and keylane's own golden test.
#[test]
fn letters_of_other_programs_are_read_in_their_own_encoding() {
    let origin = parking(3, 42);
    let text = |text: &str| Some(text.to_owned());
    let spring = [
        ("kafka_dlt-original-topic", &b"parking"[..]),
        ("kafka_dlt-original-partition", &[0, 0, 0, 3]),
        ("kafka_dlt-original-offset", &[0, 0, 0, 0, 0, 0, 0, 42]),
        (
            "kafka_dlt-original-timestamp",
            &[0x00, 0x00, 0x01, 0x9a, 0xa4, 0xa4, 0x99, 0x90],
        ),
        ("kafka_dlt-original-timestamp-type", b"CreateTime"),
        ("kafka_dlt-original-consumer-group", b"billing"),
        ("kafka_dlt-exception-fqcn", b"java.lang.IllegalState"),
        ("kafka_dlt-exception-message", b"busy"),
    ];
    let of_spring = Letter {
        origin: origin.clone(),
        origin_timestamp: millis(1_763_698_842_000),
        group: text("billing"),
        error_class: text("java.lang.IllegalState"),
        error: text("busy"),
        ..nothing(WrittenBy::Spring)
    };
    assert_eq!(Letter::read(&with(&spring)), Some(of_spring.clone()));
    let retryable = spring.map(|(name, value)| match name {
        "kafka_dlt-original-consumer-group" => (name.to_owned(), value.to_vec()),
        _ => (name.replace("kafka_dlt-", "kafka_"), value.to_vec()),
    });
    let retryable: Headers = retryable.into_iter().collect();
    assert_eq!(Letter::read(&retryable), Some(of_spring));

    let share_group = with(&[
        ("__dlq.errors.topic", b"parking"),
        ("__dlq.errors.partition", b"3"),
        ("__dlq.errors.offset", b"42"),
        ("__dlq.errors.group", b"billing"),
        ("__dlq.errors.delivery.count", b"5"),
        ("__dlq.errors.message", b"rejected"),
    ]);
    let expected = Letter {
        origin: origin.clone(),
        group: text("billing"),
        attempts: Some(5),
        error: text("rejected"),
        ..nothing(WrittenBy::ShareGroup)
    };
    assert_eq!(Letter::read(&share_group), Some(expected));

    let connect = with(&[
        ("__connect.errors.topic", b"parking"),
        ("__connect.errors.partition", b"3"),
        ("__connect.errors.offset", b"42"),
        ("__connect.errors.connector.name", b"sink"),
        ("__connect.errors.stage", b"VALUE_CONVERTER"),
        (
            "__connect.errors.exception.class.name",
            b"org.apache.DataException",
        ),
        ("__connect.errors.exception.message", b"no schema"),
    ]);
    let expected = Letter {
        origin: origin.clone(),
        reason: text("VALUE_CONVERTER"),
        error_class: text("org.apache.DataException"),
        error: text("no schema"),
        ..nothing(WrittenBy::Connect)
    };
    assert_eq!(Letter::read(&connect), Some(expected));

    let smallrye = with(&[
        ("dead-letter-topic", b"parking"),
        ("dead-letter-partition", b"3"),
        ("dead-letter-offset", b"42"),
        ("dead-letter-reason", b"busy"),
        ("dead-letter-cause", b"timed out"),
        ("dead-letter-exception-class-name", b"io.Busy"),
        ("dead-letter-cause-class-name", b"io.TimeOut"),
    ]);
    let expected = Letter {
        origin: origin.clone(),
        error_class: text("io.Busy"),
        error: text("busy"),
        ..nothing(WrittenBy::SmallRye)
    };
    assert_eq!(Letter::read(&smallrye), Some(expected));

    let karafka = with(&[
        ("source_topic", b"parking"),
        ("source_partition", b"3"),
        ("source_offset", b"42"),
        ("source_consumer_group", b"billing"),
        ("source_attempts", b"4"),
    ]);
    let expected = Letter {
        origin,
        group: text("billing"),
        attempts: Some(4),
        ..nothing(WrittenBy::Karafka)
    };
    assert_eq!(Letter::read(&karafka), Some(expected));
}

#[test]
fn the_last_program_that_gave_it_up_counts() {
    let springs = [
        ("kafka_dlt-original-topic", &b"orders"[..]),
        ("kafka_dlt-exception-message", b"busy"),
    ];
    let before = keylanes(&with(&springs), &[HeaderConvention::Connect]);
    let read = |headers: &Headers| Letter::read(headers).map(|letter| letter.written_by);
    assert_eq!(read(&before), Some(WrittenBy::Keylane));
    let mut after = keylanes(&Headers::new(), &[HeaderConvention::Connect]);
    for (name, value) in springs {
        after.push(name, value);
    }
    assert_eq!(read(&after), Some(WrittenBy::Spring));
}

#[test]
fn what_is_not_said_or_damaged_is_none_and_never_half_an_origin() {
    let (origin, history) = parking_failure();
    let round = Round {
        number: 1,
        due_millis: 5,
        retried_for: std::time::Duration::ZERO,
    };
    let retry = retry_headers(
        &Headers::new(),
        &origin,
        None,
        by("g"),
        &history,
        round,
        None,
    );
    assert_eq!(Letter::read(&retry), None, "a retry is no dead letter");
    assert_eq!(Letter::read(&with(&[("own", b"1")])), None);

    for (name, value) in [
        ("kafka_dlt-original-partition", &b"3"[..]),
        ("kafka_dlt-original-partition", &[0xff, 0xff, 0xff, 0xff]),
        ("kafka_dlt-original-offset", &[0, 0]),
        ("kafka_dlt-original-topic", b"no topic"),
    ] {
        let mut headers = with(&[
            ("kafka_dlt-original-topic", b"parking"),
            ("kafka_dlt-original-partition", &[0, 0, 0, 3]),
            ("kafka_dlt-original-offset", &[0, 0, 0, 0, 0, 0, 0, 42]),
        ]);
        headers.push(name, value);
        let expected = nothing(WrittenBy::Spring);
        assert_eq!(Letter::read(&headers), Some(expected), "{name}");
    }
}

#[test]
fn a_redrive_is_counted_and_a_count_that_cannot_be_read_is_the_highest() {
    let mut headers = keylanes(&Headers::new(), &[]);
    headers.push("keylane-redrive-count", "2");
    headers.push("keylane-redrive-id", "t1/dead/0/17");
    headers.push("keylane-edited-from", "ab12");
    let letter = Letter::read(&headers).unwrap();
    assert_eq!(letter.redrive_count, 2);
    assert_eq!(letter.redrive_id.as_deref(), Some("t1/dead/0/17"));
    assert_eq!(letter.edited_from.as_deref(), Some("ab12"));
    headers.push("keylane-redrive-count", "-1");
    let letter = Letter::read(&headers).unwrap();
    assert_eq!(letter.redrive_count, u32::MAX);
}

fn a_header_of_some_letter() -> impl Strategy<Value = (String, Vec<u8>)> {
    let names = |names: &'static HeaderNames| {
        let field = prop_oneof![
            Just(names.topic),
            Just(names.partition),
            Just(names.offset),
            Just(names.timestamp),
            Just(names.error),
        ];
        field.prop_map(|field| format!("{}{field}", names.prefix))
    };
    let name = prop_oneof![
        (0..OTHERS.len()).prop_flat_map(move |at| names(OTHERS[at].1)),
        (0..names::OURS.len()).prop_map(|at| names::OURS[at].to_owned()),
    ];
    (name, proptest::collection::vec(any::<u8>(), 0..3000))
}

proptest! {
    #[test]
    fn any_headers_are_read_within_the_bounds(
        mut headers in producer_headers(), some in proptest::collection::vec(a_header_of_some_letter(), 0..8),
    ) {
        for (name, value) in some {
            headers.push(name, value);
        }
        if let Some(letter) = Letter::read(&headers) {
            prop_assert!(letter.error.is_none_or(|error| error.len() <= ERROR_LIMIT_BYTES));
            prop_assert!(letter.group.is_none_or(|group| group.len() <= NAME_LIMIT_BYTES));
        }
    }
}
