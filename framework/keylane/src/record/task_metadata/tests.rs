use proptest::prelude::*;

use super::*;

/// Made with Google's protobuf runtime from Decaton's schema.
pub(in crate::record) const FULL: &str =
    "088c8bfae8b92d1209756e69742d746573741a09686f73742dc3bc2d312003289cd9fae8b92d";
const NEGATIVE: &str = "08ffffffffffffffffff012080808080808080808001";

pub(in crate::record) fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

pub(in crate::record) fn full() -> TaskMetadata {
    TaskMetadata {
        timestamp_millis: 1_561_709_151_628,
        source_application_id: "unit-test".into(),
        source_instance_id: "host-ü-1".into(),
        retry_count: 3,
        scheduled_time_millis: 1_561_709_161_628,
    }
}

#[test]
fn the_bytes_are_those_of_googles_protobuf() {
    let negative = TaskMetadata {
        timestamp_millis: -1,
        retry_count: i64::MIN,
        ..TaskMetadata::default()
    };
    for (metadata, hex) in [
        (full(), FULL),
        (negative, NEGATIVE),
        (TaskMetadata::default(), ""),
    ] {
        assert_eq!(metadata.clone().encode(), bytes(hex));
        assert_eq!(TaskMetadata::decode(&bytes(hex)), Ok(metadata));
    }
}

#[test]
fn the_last_of_a_repeated_field_wins() {
    assert_eq!(
        TaskMetadata::decode(&bytes("20032005"))
            .unwrap()
            .retry_count,
        5
    );
    assert_eq!(
        TaskMetadata::decode(&bytes("12016112016212016320 01".replace(' ', "").as_str())).unwrap(),
        {
            TaskMetadata {
                source_application_id: "c".into(),
                retry_count: 1,
                ..TaskMetadata::default()
            }
        }
    );
}

#[test]
fn unknown_fields_of_every_wire_type_are_skipped() {
    // 6: varint, 7: fixed64, 8: bytes, 9: a group with a group and a field inside, 10: fixed32.
    let unknown = "30960139010203040506070842026869".to_owned() + "4b5308015408014c" + "5501020304";
    for hex in [unknown.clone() + FULL, FULL.to_owned() + &unknown] {
        assert_eq!(TaskMetadata::decode(&bytes(&hex)), Ok(full()), "{hex}");
    }
}

#[test]
fn malformed_bytes_are_an_error() {
    for (hex, why) in [
        ("08", "a number is missing"),
        ("0880", "a number ends early"),
        ("08ffffffffffffffffffff01", "a number of eleven bytes"),
        ("120561", "a string ends early"),
        ("12ffffffffffffffffff01", "a length beyond memory"),
        ("1201ff", "a string that is not UTF-8"),
        ("00", "field number 0"),
        ("0f", "wire type 7"),
        ("0c", "the end of a group that did not start"),
        ("4b08014c08", "a field cut off after a group"),
        ("4b0801", "a group without an end"),
        ("4b54", "a group closed by another"),
        ("3d010203", "a fixed32 of three bytes"),
        ("0a0161", "a number that is a string"),
    ] {
        assert!(TaskMetadata::decode(&bytes(hex)).is_err(), "{why}");
    }
    assert!(
        TaskMetadata::decode(&[0x4b; 100_000]).is_err(),
        "groups nested without end"
    );
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(
        timestamp_millis: i64, retry_count: i64, scheduled_time_millis: i64,
        source_application_id: String, source_instance_id: String,
    ) {
        let metadata = TaskMetadata {
            timestamp_millis, source_application_id, source_instance_id, retry_count, scheduled_time_millis,
        };
        prop_assert_eq!(TaskMetadata::decode(&metadata.clone().encode()), Ok(metadata));
    }

    /// Never a panic, and never a text longer than the input.
    #[test]
    fn any_bytes_are_read_or_refused(input: Vec<u8>) {
        let input = Bytes::from(input);
        if let Ok(metadata) = TaskMetadata::decode(&input) {
            prop_assert!(metadata.source_application_id.len() + metadata.source_instance_id.len() <= 2 * input.len());
        }
    }

    /// Damage anywhere in a real message, where most of the structure survives.
    #[test]
    fn a_damaged_message_is_read_or_refused(at in 0..38_usize, byte: u8, end in 0..=38_usize) {
        let mut input = bytes(FULL);
        input[at] = byte;
        input.truncate(end);
        if let Ok(metadata) = TaskMetadata::decode(&input) {
            prop_assert!(metadata.source_application_id.len() <= end);
        }
    }
}
