use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use keylane_core::FailureHeaders;
use proptest::prelude::*;

use super::*;
use crate::dead_letter::{
    ErrorText, FailedRecordId, FailureHistory, Round, Writer, dead_letter_headers, retry_headers,
};
use crate::producer::raw::OutgoingRecord;
use crate::producer::{MessageIds, TaskFormat, TaskSource};
use crate::record::{Arena, Origin, OriginLog, Record, RecordHeaders, TaskMetadata};

fn stored(headers: Headers) -> StoredLetter {
    of(Some(b"B-KL 42"), Some(b"{}"), headers)
}

fn of(key: Option<&[u8]>, value: Option<&[u8]>, all: Headers) -> StoredLetter {
    let headers = Some(RecordHeaders {
        all,
        ..RecordHeaders::default()
    });
    let record = Record::new(&mut Arena::default(), 17, Some(9), key, value, headers);
    StoredLetter::new("dead".into(), 1, record).expect("a letter")
}

fn origin() -> Origin {
    Origin {
        topic: "parking".into(),
        partition: 3,
        offset: 42,
        log: OriginLog::read("0123456789abcdef/7"),
    }
}

fn history() -> FailureHistory {
    FailureHistory {
        attempts: 7,
        first_failure_millis: 1,
        last_failure_millis: 2,
        reason: "exhausted",
        class: "gate::Busy".into(),
        error: ErrorText::of("busy"),
    }
}

fn dead(original: &Headers, retry_topic: Option<&str>) -> Headers {
    let writer = Writer {
        group: "notifier",
        epoch: Some("7/a"),
        retry_topic,
        conventions: &BTreeSet::from([crate::config::HeaderConvention::Spring]),
    };
    let all = FailureHeaders::All;
    dead_letter_headers(original, &origin(), Some(5), writer, &history(), all)
}

fn written(task: NewTask, format: TaskFormat) -> OutgoingRecord {
    let source = TaskSource {
        application_id: "redriver".to_owned(),
        instance_id: "1".to_owned(),
        format,
        message_ids: MessageIds::Generated,
    };
    let (mut task, now) = (task, SystemTime::now());
    task.name_message(&source, now);
    task.into_record("t".into(), &source, now)
}

fn lines(headers: &Headers) -> Vec<String> {
    let text = |value: &bytes::Bytes| String::from_utf8_lossy(value).into_owned();
    headers
        .iter()
        .map(|(name, value)| format!("{name}={}", value.map_or("null".to_owned(), text)))
        .collect()
}

fn topic(task: &NewTask) -> String {
    let topics = ["parking", "parking-retry", "other"].map(Into::into);
    task.topic_among(&topics).expect("one of these").to_string()
}

#[test]
fn a_copy_has_the_records_own_headers_its_origin_and_group_and_begins_again() {
    let mut original: Headers = [("tenant", "a"), ("keylane-message-id", "m-7")]
        .into_iter()
        .collect();
    original.push_null("flag");
    let letter = stored(dead(&original, Some("parking-retry")));
    let copy = Redrive::named("t1").unwrap().copy(&letter).unwrap();
    assert_eq!(topic(&copy), "parking-retry");
    let record = written(copy, TaskFormat::Header);
    assert_eq!(record.key.as_deref(), Some(&b"B-KL 42"[..]));
    assert_eq!(record.value.as_deref(), Some(&b"{}"[..]));
    assert_eq!(record.partition, None);
    assert_eq!(
        lines(&record.headers),
        [
            "tenant=a",
            "keylane-message-id=m-7",
            "flag=null",
            "keylane-origin-topic=parking",
            "keylane-origin-partition=3",
            "keylane-origin-offset=42",
            "keylane-origin-log=0123456789abcdef/7",
            "keylane-origin-timestamp=5",
            "keylane-group=notifier",
            "keylane-redrive-count=1",
            "keylane-redrive-id=t1/dead/1/17",
        ]
    );
    let second = stored(dead(&record.headers, None));
    let copy = Redrive::default().to_origin().copy(&second).unwrap();
    assert_eq!(topic(&copy), "parking");
    assert_eq!(
        lines(&written(copy, TaskFormat::Header).headers),
        [
            "tenant=a",
            "keylane-message-id=m-7",
            "flag=null",
            "keylane-redrive-count=2",
            "keylane-redrive-id=library/dead/1/17",
        ]
    );
}

#[test]
fn the_target_is_the_groups_own_unless_it_is_named() {
    let letter = stored(dead(&Headers::new(), None));
    let error = Redrive::default().copy(&letter).unwrap_err();
    assert!(matches!(error, RedriveError::NoRetryTopic { .. }));
    assert!(error.to_string().contains("dead-1@17"), "{error}");

    let copy = Redrive::default()
        .to_retry_topic_of("billing", "other")
        .partitions(2)
        .copy(&letter)
        .unwrap();
    assert_eq!(topic(&copy), "other");
    let record = written(copy, TaskFormat::Header);
    assert_eq!(record.headers.last_str("keylane-group"), Some("billing"));
    assert_eq!(record.partition, Some(1));

    let copy = Redrive::default().to_topic("other").copy(&letter).unwrap();
    let record = written(copy, TaskFormat::Header);
    assert_eq!(record.headers.last_str("keylane-group"), None);
    assert_eq!(
        record.headers.last_str("keylane-origin-topic"),
        Some("parking")
    );
}

#[test]
fn a_record_is_refused_after_its_third_redrive() {
    for (count, is_refused) in [("2", false), ("3", true), ("4294967294", true)] {
        let mut headers = dead(&Headers::new(), Some("parking-retry"));
        headers.push("keylane-redrive-count", count);
        let letter = stored(headers);
        let copy = Redrive::default().copy(&letter);
        let too_often = matches!(copy, Err(RedriveError::TooOften { .. }));
        assert_eq!(too_often, is_refused, "{count}");
        let none_at_all = Redrive::default().max_count(0).copy(&letter);
        assert!(none_at_all.is_err());
    }
}

/// Both are a guard that is shut. What names the fix has to open it.
#[test]
fn a_count_that_cannot_be_read_is_refused_unless_there_is_no_limit() {
    for count in ["what", "-1", "4294967295"] {
        let mut headers = dead(&Headers::new(), Some("parking-retry"));
        headers.push("keylane-redrive-count", count);
        let letter = stored(headers);
        let redrive = |max_count| Redrive::default().max_count(max_count).copy(&letter);
        let error = redrive(u32::MAX - 1).unwrap_err();
        let is_told_apart = matches!(error, RedriveError::UnreadableCount { .. });
        assert!(is_told_apart && error.to_string().contains("dead-1@17"));
        let record = written(redrive(u32::MAX).unwrap(), TaskFormat::Header);
        let next = record.headers.last_str("keylane-redrive-count");
        assert_eq!(next, Some("4294967295"), "the guard stays shut");
    }
}

#[test]
fn a_header_without_a_name_is_refused_by_a_text_that_names_it() {
    let original: Headers = [("", "legal in Kafka")].into_iter().collect();
    let letter = stored(dead(&original, Some("parking-retry")));
    let error = Redrive::default().copy(&letter).unwrap_err();
    assert!(matches!(error, RedriveError::HeaderName { .. }));
    let text = error.to_string();
    assert!(
        text.contains("dead-1@17 has a header with an empty name"),
        "{text}"
    );
}

/// Spring's due time would delay the copy, and its attempts would count.
#[test]
fn a_record_that_came_through_springs_retries_begins_again() {
    let original: Headers = [
        ("retry_topic-attempts", &[0, 0, 0, 4][..]),
        ("retry_topic-backoff-timestamp", &[0x7f; 8]),
        ("retry_topic-original-timestamp", &[1; 8]),
        ("retry_topics", b"the record's own"),
    ]
    .into_iter()
    .collect();
    let letter = stored(dead(&original, Some("parking-retry")));
    let record = written(
        Redrive::default().copy(&letter).unwrap(),
        TaskFormat::Header,
    );
    let names: Vec<_> = record.headers.iter().map(|(name, _)| name).collect();
    assert_eq!(names[..2], ["retry_topics", "keylane-origin-topic"]);
}

/// A reader that drops what it has seen must not drop a second failure.
#[test]
fn the_failure_after_a_redrive_is_another_one() {
    let id = |headers: &Headers| FailedRecordId::read(headers).unwrap();
    let first = dead(&Headers::new(), Some("parking-retry"));
    let copy = |name: &str| {
        let redrive = Redrive::named(name).unwrap();
        written(
            redrive.copy(&stored(first.clone())).unwrap(),
            TaskFormat::Header,
        )
        .headers
    };
    let again = dead(&copy("t1"), Some("parking-retry"));
    assert_ne!(id(&first), id(&again));
    assert_eq!(id(&again), id(&dead(&copy("t1"), None)), "after a crash");
    assert_ne!(id(&again), id(&dead(&copy("t2"), None)));
}

#[test]
fn the_letter_of_another_program_loses_that_programs_headers_alone() {
    let headers: Headers = [
        ("source_system", &b"mainframe"[..]),
        ("source_topic_arn", b"arn:aws:sns"),
        ("source_topic", b"parking"),
        ("source_partition", b"3"),
        ("source_offset", b"42"),
        ("source_consumer_group", b"billing"),
    ]
    .into_iter()
    .collect();
    let copy = Redrive::default()
        .to_retry_topic_of("billing", "parking-retry")
        .copy(&stored(headers));
    assert_eq!(
        lines(&written(copy.unwrap(), TaskFormat::Header).headers)[..4],
        [
            "source_system=mainframe",
            "source_topic_arn=arn:aws:sns",
            "keylane-origin-topic=parking",
            "keylane-origin-partition=3",
        ]
    );
    let share_group: Headers = [("__dlq.errors.topic", "parking")].into_iter().collect();
    let empty = of(None, None, share_group);
    let copy = Redrive::default().to_topic("other").copy(&empty);
    assert!(matches!(copy, Err(RedriveError::NoContent { .. })));
}

#[test]
fn a_copy_has_the_producers_metadata_without_rounds_and_none_where_there_was_none() {
    let producers = TaskMetadata {
        timestamp_millis: 5,
        source_application_id: "gate".to_owned(),
        source_instance_id: "gate-1".to_owned(),
        retry_count: 2,
        scheduled_time_millis: 77,
    };
    let mut original = Headers::new();
    original.push("dt_meta", producers.clone().encode());
    let letter = stored(dead(&original, Some("parking-retry")));
    let copy = || Redrive::default().copy(&letter).unwrap();
    let read = |record: &OutgoingRecord| {
        TaskMetadata::decode(record.headers.last("dt_meta").unwrap()).unwrap()
    };
    let fresh = TaskMetadata {
        retry_count: 0,
        scheduled_time_millis: 0,
        ..producers.clone()
    };
    assert_eq!(read(&written(copy(), TaskFormat::Header)), fresh);
    let later = copy().not_before(std::time::UNIX_EPOCH + Duration::from_millis(9));
    assert_eq!(
        read(&written(later, TaskFormat::Header)).scheduled_time_millis,
        9
    );

    // It may be in Decaton's wrapper, which is read only without the header.
    let bare = stored(dead(&Headers::new(), Some("parking-retry")));
    for format in [TaskFormat::Header, TaskFormat::Legacy] {
        let record = written(Redrive::default().copy(&bare).unwrap(), format);
        assert_eq!(record.headers.last("dt_meta"), None);
        assert_eq!(record.value.as_deref(), Some(&b"{}"[..]));
    }
}

#[test]
fn an_edited_copy_has_the_digest_of_what_was_there() {
    let letter = stored(dead(&Headers::new(), Some("parking-retry")));
    let copy = Redrive::default().copy(&letter).unwrap();
    let record = written(copy.edited("[]"), TaskFormat::Header);
    assert_eq!(record.value.as_deref(), Some(&b"[]"[..]));
    // printf %s "{}" | sha256sum
    assert_eq!(
        record.headers.last_str("keylane-edited-from"),
        Some("44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a")
    );
}

#[test]
fn a_name_fits_into_the_id() {
    for name in ["", "a/b", "a b", "é", &"x".repeat(101)] {
        assert_eq!(Redrive::named(name), Err(RedriveError::Name), "{name}");
    }
    assert!(Redrive::named("2026-11-30.after_outage").is_ok());
}

proptest! {
    /// Dead letter, redrive, any number of retries, dead letter: the record's own headers stay, and
    /// the count is the number of redrives.
    #[test]
    fn trips_are_counted_and_the_records_own_headers_arrive_bit_for_bit(
        own in proptest::collection::vec(("[a-c]{1,3}", proptest::option::of(any::<Vec<u8>>())), 0..5),
        trips in proptest::collection::vec(0..4_u32, 1..6),
    ) {
        let mut original = Headers::new();
        for (name, value) in own {
            match value {
                Some(value) => original.push(name, value),
                None => original.push_null(name),
            }
        }
        let mut letter = dead(&original, Some("parking-retry"));
        for (trip, rounds) in (1..).zip(trips) {
            let copy = Redrive::default().max_count(100).copy(&stored(letter)).unwrap();
            let mut headers = written(copy, TaskFormat::Header).headers;
            prop_assert_eq!(headers.last_str("keylane-attempts"), None);
            for number in 1..=rounds {
                let round = Round { number, due_millis: 9, retried_for: Duration::ZERO };
                let writer = Writer {
                    group: "notifier", epoch: None, retry_topic: Some("parking-retry"), conventions: &BTreeSet::new(),
                };
                let metadata = last_metadata(&headers);
                headers = retry_headers(
                    &headers, &origin(), Some(5), writer, &history(), round, metadata.as_ref(),
                );
            }
            letter = dead(&headers, Some("parking-retry"));
            let read = Letter::read(&letter).unwrap();
            prop_assert_eq!(read.redrive_count, trip);
            let mut without = letter.clone();
            without.remove("keylane-redrive-count");
            without.remove("keylane-redrive-id");
            prop_assert_eq!(&without, &dead(&original, Some("parking-retry")));
        }
    }
}
