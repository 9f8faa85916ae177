//! What a dead letter says, whichever program wrote it. Pure.

use std::time::SystemTime;

use super::bounded_text::bounded_text;
use super::header_names::{
    CONNECT, HeaderNames, KARAFKA, KIP_1191, SMALLRYE, SPRING, SPRING_RETRYABLE,
};
use super::headers::without_ours;
use super::retry_headers::{number, origin};
use super::{conventions, names};
use crate::Headers;
use crate::config::{HeaderConvention, NAME_LIMIT_BYTES};
use crate::record::{Origin, OriginLog, time_of};
use crate::support::rfc3339;

const ERROR_LIMIT_BYTES: usize = 1024;

/// The program whose headers a dead letter has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WrittenBy {
    /// keylane.
    Keylane,
    /// Kafka's share groups, `__dlq.errors.*` (KIP-1191).
    ShareGroup,
    /// Spring Kafka, `kafka_dlt-*`, or `kafka_original-*` with `@RetryableTopic`.
    Spring,
    /// Kafka Connect, `__connect.errors.*`.
    Connect,
    /// SmallRye Reactive Messaging (Quarkus), `dead-letter-*`.
    SmallRye,
    /// Karafka Pro, `source_*`.
    Karafka,
}

/// What a dead letter says about its record and why it was given up.
///
/// It reads keylane's dead letters and those of other programs. What a letter does not say is
/// `None`; so is what cannot be read. Texts are bounded: a name has 255 bytes at most, an error's
/// text 1,024.
///
/// # Which program wrote it
/// A record may have been given up twice, by two programs, and have the headers of both. Programs
/// add their headers behind those of the record, so the last ones count. SmallRye puts its own in
/// front of them: there the earlier failure counts. The headers that keylane wrote for others
/// ([`DeadLetter::headers`](crate::DeadLetter::headers)) count as keylane's.
///
/// # Examples
/// ```
/// use keylane::Headers;
/// use keylane::dead_letter::{Letter, WrittenBy};
///
/// let mut headers = Headers::new();
/// headers.push("kafka_dlt-original-topic", "parking");
/// headers.push("kafka_dlt-original-partition", &[0, 0, 0, 3][..]);
/// headers.push("kafka_dlt-original-offset", &[0, 0, 0, 0, 0, 0, 0, 42][..]);
/// headers.push("kafka_dlt-exception-message", "gateway said 503");
///
/// let letter = Letter::read(&headers).expect("Spring wrote it");
/// assert_eq!(letter.written_by, WrittenBy::Spring);
/// assert_eq!(letter.origin.map(|origin| origin.offset), Some(42));
/// assert_eq!(letter.error.as_deref(), Some("gateway said 503"));
/// assert_eq!(letter.attempts, None, "Spring does not say");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Letter {
    /// Whose headers were read.
    pub written_by: WrittenBy,
    /// Where the record was read first; whole or not at all.
    pub origin: Option<Origin>,
    /// The record's timestamp there.
    pub origin_timestamp: Option<SystemTime>,
    /// The consumer group that gave up on it.
    pub group: Option<String>,
    /// Why it was given up: one of keylane's words, or the stage of Connect.
    pub reason: Option<String>,
    /// The last error's class.
    pub error_class: Option<String>,
    /// The last error's text.
    pub error: Option<String>,
    /// How many times it was tried.
    pub attempts: Option<u32>,
    /// When it failed first.
    pub first_failure: Option<SystemTime>,
    /// When it failed last.
    pub last_failure: Option<SystemTime>,
    /// The retry topic of the group that gave up on it.
    pub retry_topic: Option<String>,
    /// How many times the record was written back before; [`u32::MAX`] where the header
    /// `keylane-redrive-count` cannot be read, so that a guard against loops refuses it.
    pub redrive_count: u32,
    /// Which act of which task wrote it back last: `<task>/<topic>/<partition>/<offset>`, the place
    /// of the dead letter from which it was copied.
    pub redrive_id: Option<String>,
    /// The SHA-256, in hexadecimal digits, of the value before it was edited the last time.
    pub edited_from: Option<String>,
}

impl Letter {
    /// Reads the headers of a record on a dead-letter topic. `None` where they are no dead letter's:
    /// those of a record on keylane's retry topic neither.
    pub fn read(headers: &Headers) -> Option<Self> {
        let mut letter = match written_by(headers)? {
            Program::Keylane => of_keylane(headers),
            Program::Other(written_by, names) => of_other(headers, written_by, names),
        };
        letter.redrive_count = match headers.contains(names::REDRIVE_COUNT) {
            true => number(headers, names::REDRIVE_COUNT).unwrap_or(u32::MAX),
            false => 0,
        };
        letter.redrive_id = text(headers, names::REDRIVE_ID, ERROR_LIMIT_BYTES);
        letter.edited_from = text(headers, names::EDITED_FROM, NAME_LIMIT_BYTES);
        Some(letter)
    }
}

/// The headers that the record had before it was given up: without those of the program that wrote
/// the letter, of earlier redrives, and of Spring's retries, which begin again with the copy.
pub(crate) fn headers_before(headers: &Headers, written_by: WrittenBy) -> Headers {
    let own = OTHERS.iter().find(|(program, _)| *program == written_by);
    let is_own = |name: &str| {
        own.is_some_and(|(_, own)| {
            let has_prefix = own.own_prefixes.iter().any(|own| name.starts_with(own));
            has_prefix || own.own_names.contains(&name)
        })
    };
    let mut before = without_ours(headers);
    before.retain(|name| {
        let is_of_redrive = name == names::REDRIVE_COUNT || name == names::REDRIVE_ID;
        !is_of_redrive && !name.starts_with(names::SPRING_RETRIES) && !is_own(name)
    });
    before
}

enum Program {
    Keylane,
    Other(WrittenBy, &'static HeaderNames),
}

const OTHERS: [(WrittenBy, &HeaderNames); 6] = [
    (WrittenBy::ShareGroup, &KIP_1191),
    (WrittenBy::Spring, &SPRING),
    (WrittenBy::Spring, &SPRING_RETRYABLE),
    (WrittenBy::Connect, &CONNECT),
    (WrittenBy::SmallRye, &SMALLRYE),
    (WrittenBy::Karafka, &KARAFKA),
];

/// The program whose headers come last.
fn written_by(headers: &Headers) -> Option<Program> {
    let by_keylane = conventions::written(headers);
    let is_keylanes = |names: &HeaderNames| {
        let prefix = |it: &HeaderConvention| conventions::prefix(*it);
        by_keylane.iter().map(prefix).any(|it| it == names.prefix)
    };
    // Without an allocation for each name: every record of a topic comes by here.
    let last = |prefix: &str, name: &str| {
        let all = headers.iter().enumerate();
        all.filter(|(_, (other, _))| other.strip_prefix(prefix) == Some(name))
            .map(|(at, _)| at)
            .last()
    };
    let ours = last("", names::REASON)
        .filter(|_| headers.contains(names::GROUP) && !headers.contains(names::RETRY_ROUND))
        .map(|at| (at, Program::Keylane));
    let others = OTHERS
        .into_iter()
        .filter(|(_, names)| !is_keylanes(names))
        .filter_map(|(program, names)| {
            let at = last(names.prefix, names.topic)?;
            Some((at, Program::Other(program, names)))
        });
    ours.into_iter()
        .chain(others)
        .max_by_key(|(at, _)| *at)
        .map(|(_, program)| program)
}

fn of_keylane(headers: &Headers) -> Letter {
    let name = |name| text(headers, name, NAME_LIMIT_BYTES);
    let time = |name| {
        let millis = headers.last_str(name).and_then(rfc3339::parse_millis);
        millis.and_then(time_of)
    };
    Letter {
        origin: origin(headers),
        origin_timestamp: number(headers, names::ORIGIN_TIMESTAMP).and_then(time_of),
        group: name(names::GROUP),
        reason: name(names::REASON),
        error_class: name(names::ERROR_CLASS),
        error: text(headers, names::ERROR, ERROR_LIMIT_BYTES),
        attempts: number(headers, names::ATTEMPTS),
        first_failure: time(names::FIRST_FAILURE),
        last_failure: time(names::LAST_FAILURE),
        retry_topic: name(names::RETRY_TOPIC)
            .filter(|topic| keylane_core::check_topic_name(topic).is_ok()),
        ..nothing(WrittenBy::Keylane)
    }
}

fn of_other(headers: &Headers, written_by: WrittenBy, names: &HeaderNames) -> Letter {
    let value = |name: &str| {
        let value = headers.last(&format!("{}{name}", names.prefix));
        value.filter(|_| !name.is_empty()).map(|value| &value[..])
    };
    let text = |name, limit_bytes| {
        let text = value(name).map(|value| bounded(value, limit_bytes));
        text.filter(|text| !text.is_empty())
    };
    let whole = |name| -> Option<i64> {
        let value = value(name)?;
        if !names.big_endian {
            return std::str::from_utf8(value).ok()?.parse().ok();
        }
        match value.len() {
            4 => Some(i32::from_be_bytes(value.try_into().ok()?).into()),
            8 => Some(i64::from_be_bytes(value.try_into().ok()?)),
            _ => None,
        }
    };
    Letter {
        origin: place(
            text(names.topic, NAME_LIMIT_BYTES),
            whole(names.partition),
            whole(names.offset),
        ),
        origin_timestamp: whole(names.timestamp).and_then(time_of),
        group: text(names.group, NAME_LIMIT_BYTES),
        reason: text(names.reason, NAME_LIMIT_BYTES),
        error_class: text(names.class, NAME_LIMIT_BYTES),
        error: text(names.error, ERROR_LIMIT_BYTES),
        attempts: whole(names.attempts).and_then(|attempts| attempts.try_into().ok()),
        ..nothing(written_by)
    }
}

fn nothing(written_by: WrittenBy) -> Letter {
    Letter {
        written_by,
        origin: None,
        origin_timestamp: None,
        group: None,
        reason: None,
        error_class: None,
        error: None,
        attempts: None,
        first_failure: None,
        last_failure: None,
        retry_topic: None,
        redrive_count: 0,
        redrive_id: None,
        edited_from: None,
    }
}

/// Half of it would point at some other record.
fn place(topic: Option<String>, partition: Option<i64>, offset: Option<i64>) -> Option<Origin> {
    let topic = topic.filter(|topic| keylane_core::check_topic_name(topic).is_ok())?;
    let partition = i32::try_from(partition?).ok()?;
    let offset = offset.filter(|offset| *offset >= 0)?;
    (partition >= 0).then(|| Origin {
        topic: topic.into(),
        partition,
        offset,
        log: OriginLog::default(),
    })
}

fn text(headers: &Headers, name: &str, limit_bytes: usize) -> Option<String> {
    let text = bounded(headers.last(name)?, limit_bytes);
    Some(text).filter(|text| !text.is_empty())
}

/// Reads no more of the bytes than it keeps.
fn bounded(bytes: &[u8], limit_bytes: usize) -> String {
    let read = &bytes[..bytes.len().min(limit_bytes.saturating_mul(2))];
    bounded_text(&String::from_utf8_lossy(read), limit_bytes)
}

#[cfg(test)]
mod tests;
