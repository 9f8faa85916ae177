//! The message id: names a task through copies, retries, dead letters and redrives.

use std::time::{SystemTime, UNIX_EPOCH};

use uuid::{NoContext, Timestamp, Uuid};

use super::Headers;

/// The name of the header. Where it repeats, the last one counts.
pub(crate) const HEADER: &str = "keylane-message-id";
/// An id has no more bytes: it travels with every copy, and is a column of tables.
pub(crate) const MAX_BYTES: usize = 255;

/// The id in these headers; `None` also where it is no id.
pub(crate) fn read(headers: &Headers) -> Option<&str> {
    headers.last_str(HEADER).filter(|id| check(id).is_ok())
}

/// Whether this can be an id, or else why not.
pub(crate) fn check(id: &str) -> Result<(), &'static str> {
    match id.len() {
        0 => Err("the message id is empty; leave it out, or give one"),
        1..=MAX_BYTES => Ok(()),
        _ => Err("the message id has more than 255 bytes; use a shorter one, or its hash"),
    }
}

/// A UUIDv7 of this time. Without the counter that would put ids of one millisecond into their
/// order: all enqueuing threads would share its lock.
pub(crate) fn generate(now: SystemTime) -> String {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = Timestamp::from_unix(NoContext, since.as_secs(), since.subsec_nanos());
    let mut text = Uuid::encode_buffer();
    Uuid::new_v7(time)
        .hyphenated()
        .encode_lower(&mut text)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;

    #[test]
    fn ids_are_uuids_of_version_7_that_begin_with_the_time_and_never_repeat() {
        let now = UNIX_EPOCH + Duration::from_millis(0x0123_4567_89ab);
        let ids: BTreeSet<String> = (0..10_000).map(|_| generate(now)).collect();
        assert_eq!(ids.len(), 10_000);
        for id in &ids {
            assert!(id.starts_with("01234567-89ab-7"), "{id}");
            assert_eq!(id.len(), 36);
            assert_eq!(Uuid::parse_str(id).unwrap().get_version_num(), 7);
        }
        // A clock before the epoch is no reason to panic.
        assert_eq!(generate(UNIX_EPOCH - Duration::from_secs(1)).len(), 36);
    }

    #[test]
    fn what_is_empty_too_long_or_no_text_is_no_id() {
        let read_of = |value: &[u8]| {
            let mut headers: Headers = [(HEADER, "earlier")].into_iter().collect();
            headers.push(HEADER, value.to_vec());
            read(&headers).map(str::to_owned)
        };
        assert_eq!(read_of(b"order-7").as_deref(), Some("order-7"));
        let longest = "i".repeat(MAX_BYTES);
        assert_eq!(read_of(longest.as_bytes()), Some(longest.clone()));
        for bad in [&b""[..], &[0xff], format!("{longest}i").as_bytes()] {
            assert_eq!(read_of(bad), None);
        }
        assert_eq!(read(&Headers::new()), None);
    }
}
