//! The wrapper that Decaton's clients before version 9 put around a task: `DecatonTaskRequest`.
//!
//! | field | type | tag byte |
//! |---|---|---|
//! | 1 `metadata` | message, as in `dt_meta` | `0x0a` |
//! | 2 `serialized_task` | bytes | `0x12` |

use std::ops::Range;

use bytes::Bytes;
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::task_metadata::{HEADER, Proto};
use super::{Headers, TaskMetadata};

/// The metadata in a wrapper, and where in it the task is; `None` where the value is not wholly
/// one: its two fields and no others, Decaton's fields of metadata and no others.
///
/// Decaton's clients always write the metadata. An empty task is left out, as proto3 does. As in any
/// protobuf message, fields may be repeated: metadata is merged, and the last task counts.
pub(crate) fn unwrap(value: &[u8]) -> Option<(TaskMetadata, Range<usize>)> {
    let (mut metadata, mut task) = (None::<Proto>, 0..0);
    let mut rest = value;
    while !rest.is_empty() {
        let (field, WireType::LengthDelimited) = decode_key(&mut rest).ok()? else {
            return None;
        };
        let length = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
        let start = value.len() - rest.len();
        let (content, after) = rest.split_at_checked(length)?;
        match field {
            1 if has_no_other_fields(content) => {
                metadata.get_or_insert_default().merge(content).ok()?;
            }
            2 => task = start..start + length,
            _ => return None,
        }
        rest = after;
    }
    Some((metadata?.into(), task))
}

/// Whether a message has Decaton's fields of metadata alone.
fn has_no_other_fields(mut message: &[u8]) -> bool {
    while !message.is_empty() {
        let is_known = decode_key(&mut message).is_ok_and(|(field, wire_type)| {
            let skipped = skip_field(wire_type, field, &mut message, DecodeContext::default());
            (1..=5).contains(&field) && skipped.is_ok()
        });
        if !is_known {
            return false;
        }
    }
    true
}

/// The wrapper of a task and its last `dt_meta`; takes every `dt_meta` out of the headers.
pub(crate) fn wrap(headers: &mut Headers, task: &[u8]) -> Bytes {
    let metadata = headers.last(HEADER).cloned().unwrap_or_default();
    headers.remove(HEADER);
    let request = Request {
        metadata: Some(metadata),
        serialized_task: task.to_vec(),
    };
    request.encode_to_vec().into()
}

/// An embedded message is coded as bytes are.
#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(bytes = "bytes", optional, tag = "1")]
    metadata: Option<Bytes>,
    #[prost(bytes = "vec", tag = "2")]
    serialized_task: Vec<u8>,
}

#[cfg(test)]
mod tests;
