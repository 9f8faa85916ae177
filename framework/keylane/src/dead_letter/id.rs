//! Which failure of which record a copy on the retry or dead-letter topic stands for.

use std::fmt;
use std::time::SystemTime;

use super::names;
use super::retry_headers::{last_metadata, number, origin, read_retry_state};
use crate::Headers;
use crate::record::{Origin, OriginLog, time_of};

/// The identity of a record on a retry or dead-letter topic: equal for all copies of one failure,
/// and for nothing else.
///
/// keylane writes such a record and settles the failed one when the broker has acknowledged it. A
/// member may be cut off from its group between the two, or while the write is under way. Then the
/// next owner gets the record, and may fail and write it again. So there can be two copies of a
/// dead letter, as of everything under at-least-once delivery, and a record of a retry topic can be
/// processed twice. A reader of these topics recognises the second copy by this id, for example as
/// a unique key of a table. The header `keylane-epoch` names the assignment that wrote a copy.
///
/// A dead letter that was written back and fails again has another id: it has the header
/// `keylane-redrive-id`. It has the same id only where one redrive writes one letter back twice, as
/// after a crash, or where an operator resets the group to process records again.
///
/// # Examples
/// ```
/// use std::collections::HashSet;
///
/// use keylane::dead_letter::FailedRecordId;
/// use keylane::Headers;
///
/// let headers: Headers = [
///     ("keylane-group", "notifier"),
///     ("keylane-origin-topic", "parking"),
///     ("keylane-origin-partition", "3"),
///     ("keylane-origin-offset", "42"),
/// ]
/// .into_iter()
/// .collect();
/// let mut seen = HashSet::new();
/// let id = FailedRecordId::read(&headers).expect("a dead letter of keylane");
/// assert_eq!(id.to_string(), "notifier/parking-3@42");
/// assert!(seen.insert(id.clone()));
/// assert!(!seen.insert(id), "the same dead letter again");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct FailedRecordId {
    /// The consumer group where it failed.
    pub group: String,
    /// Where the record was read first; without the log.
    pub origin: Origin,
    /// The record's timestamp there, where it had one. It distinguishes records where a topic was
    /// re-created and offsets began again.
    pub origin_timestamp: Option<SystemTime>,
    /// Which round through the retry topic this is, from 1; `None` for a dead letter. Rounds of
    /// another program that requeued the record since keylane did are counted too, where it writes
    /// them to `dt_meta`. Spring does not, and neither does Decaton for a task in the old wrapper.
    pub round: Option<u32>,
    /// Which act wrote the record back from a dead letter last, as `keylane-redrive-id` has it;
    /// `None` where none did.
    pub redrive_id: Option<String>,
}

impl FailedRecordId {
    /// Reads it from the headers of a record on a retry or dead-letter topic. `None` where they
    /// name no group or no whole origin: keylane did not write it.
    pub fn read(headers: &Headers) -> Option<Self> {
        Some(Self {
            group: headers.last_str(names::GROUP)?.to_owned(),
            // An owner that did not know the log yet writes the same failure without it.
            origin: Origin {
                log: OriginLog::default(),
                ..origin(headers)?
            },
            origin_timestamp: number(headers, names::ORIGIN_TIMESTAMP).and_then(time_of),
            round: round(headers),
            redrive_id: headers.last_str(names::REDRIVE_ID).map(str::to_owned),
        })
    }
}

/// `None` where keylane never wrote one; else that of the last retry, of whichever program.
fn round(headers: &Headers) -> Option<u32> {
    number::<u32>(headers, names::RETRY_ROUND)?;
    Some(read_retry_state(headers, last_metadata(headers).as_ref(), None).round)
}

/// The form for logs, without the timestamp and the redrive.
impl fmt::Display for FailedRecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Origin {
            topic,
            partition,
            offset,
            ..
        } = &self.origin;
        write!(f, "{}/{topic}-{partition}@{offset}", self.group)?;
        self.round.map_or(Ok(()), |round| write!(f, "#{round}"))
    }
}

#[cfg(test)]
mod tests {
    use keylane_core::FailureHeaders;

    use super::super::headers::tests::{NONE, parking_failure};
    use super::super::{Round, Writer, dead_letter_headers, retry_headers};
    use super::*;

    #[test]
    fn copies_by_two_epochs_have_one_id_and_another_round_or_kind_has_another() {
        let (origin, history) = parking_failure();
        let writer = |epoch| Writer {
            group: "notifier",
            epoch: Some(epoch),
            retry_topic: None,
            conventions: &NONE,
        };
        let dead = |epoch| {
            dead_letter_headers(
                &Headers::new(),
                &origin,
                Some(5),
                writer(epoch),
                &history,
                FailureHeaders::All,
            )
        };
        let spent = std::time::Duration::ZERO;
        let retry = |epoch, round| {
            retry_headers(
                &Headers::new(),
                &origin,
                Some(5),
                writer(epoch),
                &history,
                Round {
                    number: round,
                    due_millis: 9,
                    retried_for: spent,
                },
                None,
            )
        };
        let id = |headers: &Headers| FailedRecordId::read(headers).unwrap();
        assert_eq!(id(&dead("7/a")), id(&dead("8/b")));
        assert_ne!(
            dead("7/a").last_str(names::EPOCH),
            dead("8/b").last_str(names::EPOCH)
        );
        assert_eq!(id(&retry("7/a", 2)), id(&retry("8/b", 2)));
        assert_ne!(id(&retry("7/a", 1)), id(&retry("7/a", 2)));
        assert_ne!(id(&retry("7/a", 1)), id(&dead("7/a")));
        assert_eq!(id(&retry("7/a", 2)).to_string(), "notifier/parking-3@42#2");
    }

    #[test]
    fn a_retry_that_decaton_requeued_is_another_one() {
        let (origin, history) = parking_failure();
        let writer = Writer {
            group: "notifier",
            epoch: None,
            retry_topic: None,
            conventions: &NONE,
        };
        let round = Round {
            number: 2,
            due_millis: 9,
            retried_for: std::time::Duration::ZERO,
        };
        let ours = retry_headers(
            &Headers::new(),
            &origin,
            Some(5),
            writer,
            &history,
            round,
            None,
        );
        let mut requeued = ours.clone();
        requeued.remove("dt_meta");
        requeued.push("dt_meta", &[0x20, 3, 0x28, 77][..]);
        let id = |headers: &Headers| FailedRecordId::read(headers).unwrap();
        assert_eq!(id(&ours).round, Some(2));
        assert_eq!(id(&requeued).round, Some(3));
    }

    #[test]
    fn a_record_that_keylane_did_not_write_has_none() {
        let (origin, history) = parking_failure();
        let whole = dead_letter_headers(
            &Headers::new(),
            &origin,
            None,
            Writer {
                group: "g",
                epoch: None,
                retry_topic: None,
                conventions: &NONE,
            },
            &history,
            FailureHeaders::All,
        );
        assert!(FailedRecordId::read(&whole).is_some());
        for missing in [
            names::GROUP,
            names::ORIGIN_TOPIC,
            names::ORIGIN_PARTITION,
            names::ORIGIN_OFFSET,
        ] {
            let mut headers = Headers::new();
            for (name, value) in whole.iter().filter(|(name, _)| *name != missing) {
                headers.push(name, value.cloned().unwrap_or_default());
            }
            assert_eq!(FailedRecordId::read(&headers), None, "{missing}");
        }
    }
}
