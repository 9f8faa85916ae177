//! `dt_meta` and Decaton's old wrapper, compared with what a generated protobuf parser reads.

use bytes::Bytes;
use prost::{DecodeError, Message};

use crate::TaskMetadata;

/// Decaton's schema.
#[derive(Clone, PartialEq, Message)]
struct TaskMetadataProto {
    #[prost(int64, tag = "1")]
    timestamp_millis: i64,
    #[prost(string, tag = "2")]
    source_application_id: String,
    #[prost(string, tag = "3")]
    source_instance_id: String,
    #[prost(int64, tag = "4")]
    retry_count: i64,
    #[prost(int64, tag = "5")]
    scheduled_time_millis: i64,
}

#[derive(Clone, PartialEq, Message)]
struct DecatonTaskRequest {
    #[prost(message, optional, tag = "1")]
    metadata: Option<TaskMetadataProto>,
    #[prost(bytes = "vec", tag = "2")]
    serialized_task: Vec<u8>,
}

impl From<TaskMetadata> for TaskMetadataProto {
    fn from(metadata: TaskMetadata) -> Self {
        let TaskMetadata {
            timestamp_millis,
            source_application_id,
            source_instance_id,
            retry_count,
            scheduled_time_millis,
        } = metadata;
        Self { timestamp_millis, source_application_id, source_instance_id, retry_count, scheduled_time_millis }
    }
}

/// Any bytes as the value of a `dt_meta` header, and as a record that may be a wrapper.
pub fn task_metadata(bytes: &[u8]) {
    let ours = TaskMetadata::decode(bytes);
    if let Ok(metadata) = &ours {
        let encoded = metadata.encode();
        assert_eq!(TaskMetadata::decode(&encoded).as_ref(), Ok(metadata));
        assert_eq!(encoded, TaskMetadataProto::from(metadata.clone()).encode_to_vec());
    }
    compare(ours.map(TaskMetadataProto::from), TaskMetadataProto::decode(bytes));

    let ours = TaskMetadata::decode_legacy_request(&Bytes::copy_from_slice(bytes));
    let theirs = DecatonTaskRequest::decode(bytes);
    compare(
        ours.map(|(metadata, task)| (metadata.into(), task.to_vec())),
        theirs.map(|request| (request.metadata.unwrap_or_default(), request.serialized_task)),
    );
}

/// The same, or refused by both. Google's parsers, which Decaton uses, take two things that this one refuses: a known
/// field of another type (they skip it) and a number of more than 64 bits (they cut it). Of the parser compared with, a
/// field in the innermost of as many groups as may be nested is one level too deep; not so of Google's.
fn compare<T: std::fmt::Debug + PartialEq, E: std::fmt::Debug>(ours: Result<T, E>, theirs: Result<T, DecodeError>) {
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => assert_eq!(ours, theirs),
        (Err(ours), Ok(theirs)) => panic!("{ours:?} for what is {theirs:?}"),
        (Ok(ours), Err(theirs)) => {
            let theirs = theirs.to_string();
            let is_taken = ["(expected ", "invalid varint", "recursion limit"].iter().any(|text| theirs.contains(text));
            assert!(is_taken, "{theirs}, and not {ours:?}");
        }
        (Err(_), Err(_)) => {}
    }
}
