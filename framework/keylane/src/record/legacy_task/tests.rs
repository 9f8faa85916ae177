use proptest::prelude::*;

use super::super::task_metadata::tests::{FULL, bytes, full};
use super::*;

/// Made with Google's protobuf runtime from Decaton's schema.
const LEGACY: &str = "0a26088c8bfae8b92d1209756e69742d746573741a09686f73742dc3bc2d312003289cd9fae8b92d1208007b2261223a317d";

/// Decaton's schema, read as leniently as protobuf does.
#[derive(Clone, PartialEq, Message)]
struct Lenient {
    #[prost(message, optional, tag = "1")]
    metadata: Option<Proto>,
    #[prost(bytes = "vec", tag = "2")]
    serialized_task: Vec<u8>,
}

fn unwrapped(hex: &str) -> Option<(TaskMetadata, Vec<u8>)> {
    let value = bytes(hex);
    unwrap(&value).map(|(metadata, task)| (metadata, value[task].to_vec()))
}

#[test]
fn the_wrapper_gives_metadata_and_task() {
    let task = b"\x00{\"a\":1}".to_vec();
    assert_eq!(unwrapped(LEGACY), Some((full(), task.clone())));
    let mut headers = Headers::new();
    headers.push("dt_meta", bytes(FULL));
    assert_eq!(wrap(&mut headers, &task), bytes(LEGACY));
    assert!(headers.is_empty());
}

#[test]
fn fields_may_be_in_any_order_repeated_or_empty() {
    let (metadata, task) = LEGACY.split_at(FULL.len() + 4);
    let raised = TaskMetadata {
        retry_count: 9,
        ..full()
    };
    for (hex, expected) in [
        (
            task.to_owned() + metadata,
            Some((full(), bytes(&task[4..]))),
        ),
        // The second metadata changes the retry count alone.
        (
            LEGACY.to_owned() + "0a022009",
            Some((raised, bytes(&task[4..]))),
        ),
        (LEGACY.to_owned() + "1201ff", Some((full(), vec![0xff]))),
        (metadata.to_owned(), Some((full(), Vec::new()))),
        (
            "0a00".to_owned(),
            Some((TaskMetadata::default(), Vec::new())),
        ),
    ] {
        assert_eq!(unwrapped(&hex), expected, "{hex}");
    }
}

#[test]
fn what_is_not_wholly_a_wrapper_is_none() {
    let metadata = &LEGACY[..FULL.len() + 4];
    for (hex, why) in [
        (String::new(), "nothing"),
        ("7b2261223a317d".to_owned(), "JSON"),
        (LEGACY.to_owned() + "1a00", "a field 3"),
        (LEGACY.to_owned() + "0801", "a number as field 1"),
        (metadata.to_owned() + "1001", "a number as field 2"),
        (metadata.to_owned() + "1205aa", "a task that ends early"),
        (
            metadata.to_owned() + "12ffffffffffffffffff01",
            "a length beyond memory",
        ),
        (
            "1203616263".to_owned(),
            "no metadata: a message with a text as field 2",
        ),
        (
            "0a0568656c6c6f".to_owned(),
            "a message with a text as field 1",
        ),
        ("0a023001".to_owned(), "metadata with a field 6"),
        ("0a020a00".to_owned(), "metadata whose timestamp is a text"),
        ("0a0408011a05".to_owned(), "metadata that ends early"),
        ("0a031201ff".to_owned(), "an application that is not UTF-8"),
    ] {
        assert_eq!(unwrapped(&hex), None, "{why}");
    }
}

proptest! {
    #[test]
    fn what_is_wrapped_is_unwrapped(
        task: Vec<u8>, timestamp_millis: i64, retry_count: i64, scheduled_time_millis: i64,
        source_application_id: String, source_instance_id: String,
    ) {
        let metadata = TaskMetadata {
            timestamp_millis, source_application_id, source_instance_id, retry_count, scheduled_time_millis,
        };
        let mut headers: Headers = [("own", "1")].into_iter().collect();
        let others = headers.clone();
        headers.push("dt_meta", &b"earlier"[..]);
        headers.push("dt_meta", metadata.clone().encode());
        let value = wrap(&mut headers, &task);
        prop_assert_eq!(headers, others);
        let read = unwrap(&value).map(|(metadata, at)| (metadata, &value[at]));
        prop_assert_eq!(read, Some((metadata, &task[..])));
        prop_assert_eq!(unwrap(&value[..value.len() - 1]).is_some_and(|(_, at)| at.len() == task.len()), false);
    }

    /// Whatever is unwrapped, protobuf reads the same way, and Decaton with it.
    #[test]
    fn protobuf_reads_the_same(fields in proptest::collection::vec(
        (1_u8..4, prop_oneof![Just(bytes(FULL)), Just(bytes("20032005")), Just(bytes("1201613a00")), any::<Vec<u8>>()]), 0..4,
    )) {
        let mut value = Vec::new();
        for (field, content) in fields {
            value.push(field << 3 | 2);
            prost::encoding::encode_varint(content.len() as u64, &mut value);
            value.extend(content);
        }
        if let Some((metadata, task)) = unwrap(&value) {
            let lenient = Lenient::decode(&value[..]).unwrap();
            prop_assert_eq!(lenient.metadata.map(TaskMetadata::from), Some(metadata));
            prop_assert_eq!(lenient.serialized_task, &value[task]);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(value: Vec<u8>) {
        if let Some((_, task)) = unwrap(&value) {
            prop_assert!(task.end <= value.len());
        }
    }
}
