//! A message as librdkafka has it. Header names come from other programs and may be any bytes;
//! rdkafka's safe interface unwraps them as UTF-8, and panics.
//!
//! SAFETY, for the whole file: every pointer comes from a live rdkafka object that is borrowed for
//! the whole call. Every length comes from librdkafka beside its pointer, and null is checked.
//! Lifetimes keep what is borrowed from outliving its object. No pointer is kept, none is freed.
#![allow(unsafe_code)]

use std::ffi::CStr;

use bytes::BytesMut;
use rdkafka::bindings as sys;
use rdkafka::message::BorrowedMessage;

use super::replies::slice;
use crate::Headers;

/// A message that librdkafka still owns.
pub(crate) struct NativeMessage<'a> {
    message: &'a sys::rd_kafka_message_t,
}

impl<'a> From<&'a BorrowedMessage<'_>> for NativeMessage<'a> {
    fn from(message: &'a BorrowedMessage<'_>) -> Self {
        // SAFETY: a borrowed message holds a non-null pointer that lives at least as long as
        // itself.
        Self {
            message: unsafe { &*message.ptr() },
        }
    }
}

impl<'a> NativeMessage<'a> {
    pub(crate) fn new(message: &'a sys::rd_kafka_message_t) -> Self {
        Self { message }
    }

    /// Identifies the topic while the partition is assigned: the address of librdkafka's topic
    /// object.
    pub(crate) fn topic_id(&self) -> usize {
        self.message.rkt as usize
    }

    pub(crate) fn topic(&self) -> &'a str {
        if self.message.rkt.is_null() {
            return "";
        }
        // SAFETY: the topic object lives as long as the message, and its name is a C string.
        let name = unsafe { CStr::from_ptr(sys::rd_kafka_topic_name(self.message.rkt)) };
        // Kafka allows only ASCII in topic names.
        name.to_str().unwrap_or("")
    }

    pub(crate) fn partition(&self) -> i32 {
        self.message.partition
    }

    /// The broker that it was fetched from.
    pub(crate) fn broker_id(&self) -> i32 {
        // SAFETY: the message is live, and was given out by librdkafka.
        unsafe { sys::rd_kafka_message_broker_id(self.message) }
    }

    pub(crate) fn offset(&self) -> i64 {
        self.message.offset
    }

    /// The leader's that took it; negative where its format has none.
    pub(crate) fn leader_epoch(&self) -> i32 {
        // SAFETY: the message is live.
        unsafe { sys::rd_kafka_message_leader_epoch(self.message) }
    }

    /// The client's message about an error of a partition, which comes in place of a record.
    pub(crate) fn error_text(&self) -> String {
        // SAFETY: the message is live; the text is null or a C string that belongs to it, and is
        // copied.
        unsafe {
            let text = sys::rd_kafka_message_errstr(self.message);
            if text.is_null() {
                String::new()
            } else {
                CStr::from_ptr(text).to_string_lossy().into_owned()
            }
        }
    }

    pub(crate) fn key(&self) -> Option<&'a [u8]> {
        // SAFETY: librdkafka gives pointer and length together, the bytes live as long as the
        // message.
        unsafe { bytes(self.message.key, self.message.key_len) }
    }

    pub(crate) fn value(&self) -> Option<&'a [u8]> {
        // SAFETY: as for the key.
        unsafe { bytes(self.message.payload, self.message.len) }
    }

    pub(crate) fn timestamp_millis(&self) -> Option<i64> {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is live and `kind` is a valid place to write to.
        let millis = unsafe { sys::rd_kafka_message_timestamp(self.message, &mut kind) };
        let known = kind != sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        (known && millis != -1).then_some(millis)
    }

    /// A copy of the headers; `None` where there are none, or more than librdkafka reads (100,000).
    pub(crate) fn headers(&self) -> Option<Headers> {
        let mut list = std::ptr::null_mut();
        // SAFETY: the message is live; on success `list` belongs to the message.
        let error = unsafe { sys::rd_kafka_message_headers(self.message, &mut list) };
        if error != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || list.is_null() {
            return None;
        }
        // SAFETY: `list` is non-null and lives as long as the message.
        Some(unsafe { copied(list) })
    }
}

/// Names that are not UTF-8 get U+FFFD where they are not. Of names with a NUL, librdkafka's
/// interface gives what is before it.
///
/// SAFETY: `list` is a live list of librdkafka.
unsafe fn copied(list: *const sys::rd_kafka_headers_t) -> Headers {
    // SAFETY: by the contract above.
    let count = unsafe { sys::rd_kafka_header_cnt(list) };
    let mut all = Vec::with_capacity(count);
    for index in 0..count {
        let (mut name, mut value, mut length) = (std::ptr::null(), std::ptr::null(), 0);
        // SAFETY: `list` is live, and the three out-pointers are valid places to write to.
        let error = unsafe {
            sys::rd_kafka_header_get_all(list, index, &mut name, &mut value, &mut length)
        };
        if error != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || name.is_null() {
            break;
        }
        // SAFETY: `name` is a non-null C string and `value` has `length` bytes; both belong to
        // `list`.
        all.push(unsafe { (CStr::from_ptr(name).to_string_lossy(), bytes(value, length)) });
    }
    // An allocation for each value would cost more than all else of a record with many headers. It
    // has their size: the limits of pending bytes count no more.
    let lengths = all.iter().filter_map(|(_, value)| value.map(<[u8]>::len));
    let mut values = BytesMut::with_capacity(lengths.sum());
    for value in all.iter().filter_map(|(_, value)| *value) {
        values.extend_from_slice(value);
    }
    let mut values = values.freeze();
    let mut next = |value: &[u8]| values.split_to(value.len());
    let headers = all.into_iter();
    let headers = headers.map(|(name, value)| (name.into_owned(), value.map(&mut next)));
    Headers::of(headers.collect())
}

/// Null is no value, and not an empty one.
///
/// SAFETY: `pointer` is null or points to `length` initialised bytes that live for `'a`.
pub(super) unsafe fn bytes<'a>(
    pointer: *const std::ffi::c_void,
    length: usize,
) -> Option<&'a [u8]> {
    // SAFETY: by the contract above.
    (!pointer.is_null()).then(|| unsafe { slice(pointer.cast(), length) })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// `headers.md` says so.
    #[test]
    fn a_name_is_changed_where_it_is_not_utf8_and_ends_before_a_nul() {
        let names: [&[u8]; 5] = [b"plain", "gr\u{fc}n".as_bytes(), b"a\xffb", b"a\0b", b"\0b"];
        // SAFETY: the list is live until it is destroyed, and each name has the length beside it.
        let headers = unsafe {
            let list = sys::rd_kafka_headers_new(names.len());
            for name in names {
                let (at, length) = (name.as_ptr().cast(), name.len() as isize);
                let value = b"v\0w";
                sys::rd_kafka_header_add(list, at, length, value.as_ptr().cast(), 3);
            }
            let headers = copied(list);
            sys::rd_kafka_headers_destroy(list);
            headers
        };
        let value = Bytes::from_static(b"v\0w");
        let read = ["plain", "gr\u{fc}n", "a\u{fffd}b", "a", ""];
        let read: Headers = read.map(|name| (name, value.clone())).into_iter().collect();
        assert_eq!(headers, read);
    }
}
