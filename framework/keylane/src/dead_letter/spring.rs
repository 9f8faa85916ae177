//! The headers by which Spring Kafka's `@RetryableTopic` retries.
//!
//! | header | value |
//! |---|---|
//! | `retry_topic-attempts` | the number of the next attempt: four bytes, big-endian; one byte in older versions |
//! | `retry_topic-backoff-timestamp` | when it is due, in milliseconds since the Unix epoch: as few bytes as it takes, big-endian, in two's complement |

use keylane_core::SpringRetry;

use super::names;
use crate::Headers;

/// What they contain; `None` where there is no due time.
pub(super) fn spring_retry(headers: &Headers) -> Option<SpringRetry> {
    Some(SpringRetry {
        due_millis: signed(headers.last(names::SPRING_DUE)?)?,
        next_attempt: headers
            .last(names::SPRING_NEXT_ATTEMPT)
            .and_then(|bytes| attempt(bytes)),
    })
}

/// `BigInteger.toByteArray()`, where it fits.
fn signed(bytes: &[u8]) -> Option<i64> {
    let first = *bytes.first().filter(|_| bytes.len() <= 8)?;
    let sign = if first < 0x80 { 0 } else { -1 };
    Some(
        bytes
            .iter()
            .fold(sign, |value, byte| value << 8 | i64::from(*byte)),
    )
}

/// Attempts are counted from 1.
fn attempt(bytes: &[u8]) -> Option<u32> {
    let number = match *bytes {
        [byte] => u32::from(byte),
        [a, b, c, d] => u32::from_be_bytes([a, b, c, d]),
        _ => return None,
    };
    (1..=i32::MAX as u32).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(due: &[u8], next: Option<&[u8]>) -> Option<SpringRetry> {
        let mut headers = Headers::new();
        headers.push("retry_topic-backoff-timestamp", due.to_vec());
        if let Some(next) = next {
            headers.push("retry_topic-attempts", next.to_vec());
        }
        spring_retry(&headers)
    }

    /// Made with Java's `BigInteger`.
    #[test]
    fn the_shortest_bytes_are_read_as_java_writes_them() {
        let read = |due: &[u8]| read(due, None).map(|it| it.due_millis);
        for (bytes, number) in [
            (&[0x01, 0xa2, 0x28, 0x94, 0xdd, 0x32][..], 1_795_977_174_322),
            (&[0], 0),
            (&[0x7f], 127),
            (&[0x00, 0x80], 128),
            (&[0x80], -128),
            (&[0xff], -1),
            (&[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], i64::MAX),
        ] {
            assert_eq!(read(bytes), Some(number), "{bytes:x?}");
        }
        assert_eq!([read(&[]), read(&[1; 9])], [None, None]);
    }

    #[test]
    fn the_next_attempt_has_four_bytes_or_one() {
        let read = |next: &[u8]| read(&[1], Some(next)).and_then(|it| it.next_attempt);
        assert_eq!(
            [read(&[0, 0, 0, 3]), read(&[3]), read(&[0, 0, 1, 0])],
            [Some(3), Some(3), Some(256)]
        );
        for damaged in [&[0][..], &[0, 0, 0, 0], &[0xff; 4], &[], &[0, 3], &[0; 8]] {
            assert_eq!(read(damaged), None, "{damaged:x?}");
        }
    }

    #[test]
    fn without_a_due_time_there_is_nothing_to_read() {
        assert_eq!(spring_retry(&Headers::new()), None);
        let next: Headers = [("retry_topic-attempts", &[0, 0, 0, 3][..])]
            .into_iter()
            .collect();
        assert_eq!(spring_retry(&next), None);
    }

    proptest! {
        #[test]
        fn any_number_is_read_from_its_shortest_form(number: i64) {
            let all = number.to_be_bytes();
            let redundant = |at: usize| match all[at] {
                0 => all[at + 1] < 0x80,
                0xff => all[at + 1] >= 0x80,
                _ => false,
            };
            let start = (0..7).find(|at| !redundant(*at)).unwrap_or(7);
            prop_assert_eq!(read(&all[start..], None).map(|it| it.due_millis), Some(number));
        }

        #[test]
        fn any_bytes_are_read_or_ignored(due: Vec<u8>, next: Vec<u8>) {
            let _ = read(&due, Some(&next));
        }
    }
}
