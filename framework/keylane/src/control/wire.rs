//! The values of the control topic's records: JSON.

use keylane_core::control::{Ack, Content, Order};
use keylane_core::{LeaderEpoch, LogId, Position};
use serde::{Deserialize, Serialize};
use serde_json::error::Category;

use crate::dead_letter::bounded_text;
use crate::support::rfc3339::{format_millis, parse_millis};

/// The version of what is written, and the newest that is read.
const VERSION: u64 = 1;
/// A larger value is no order.
const LARGEST_BYTES: usize = 64 * 1024;
/// What is kept of who ordered something, and of why.
const BY_BYTES: usize = 256;
const WHY_BYTES: usize = 1024;

#[derive(Deserialize)]
struct Versioned {
    v: u64,
}

/// Unknown fields are ignored.
#[derive(Default, Serialize, Deserialize)]
struct StoredOrder {
    v: u64,
    #[serde(default)]
    by: String,
    #[serde(default)]
    why: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    /// As `keylane map` shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    log: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    leader_epoch: Option<u32>,
}

#[derive(Serialize, Deserialize)]
struct StoredAck {
    v: u64,
    revision: i64,
    #[serde(default)]
    member: Option<String>,
    #[serde(default)]
    group: Option<String>,
    #[serde(default)]
    host: String,
    #[serde(default)]
    at: String,
    #[serde(default)]
    refused: u64,
}

/// What a record says. An end that cannot be read is refused: the order would last for ever.
pub(super) fn decode(value: Option<&[u8]>) -> Content {
    let Some(value) = value else {
        return Content::Nothing;
    };
    if value.len() > LARGEST_BYTES {
        return Content::Invalid(format!("it has more than {LARGEST_BYTES} bytes"));
    }
    // Of another version, the rest may have any form.
    let stored = match serde_json::from_slice::<Versioned>(value) {
        Ok(Versioned { v }) if v > VERSION => return Content::Newer(v),
        Ok(Versioned { v }) if v < VERSION => {
            return Content::Invalid(format!("there is no version {v}"));
        }
        Ok(_) => serde_json::from_slice::<StoredOrder>(value),
        Err(error) => Err(error),
    };
    match stored.map_err(place_of).and_then(StoredOrder::order) {
        Ok(order) => Content::Order(order),
        Err(reason) => Content::Invalid(reason),
    }
}

/// Where the JSON is wrong. The error's own text quotes the value, which may be large, and is no
/// text for a log.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn place_of(error: serde_json::Error) -> String {
    let (line, column) = (error.line(), error.column());
    match error.classify() {
        Category::Data => format!("a field has another type, before line {line}, column {column}"),
        _ => format!("it is no JSON, at line {line}, column {column}"),
    }
}

impl StoredOrder {
    fn order(self) -> Result<Order, String> {
        let until_millis = match self.until {
            Some(text) => Some(
                parse_millis(&text).ok_or("until is no time of the form 2026-11-30T14:00:00Z")?,
            ),
            None => None,
        };
        let log = match self.log {
            Some(text) => Some(parse_log(&text).ok_or("log is not 16 hexadecimal digits")?),
            None => None,
        };
        Ok(Order {
            by: bounded_text(&self.by, BY_BYTES),
            why: bounded_text(&self.why, WHY_BYTES),
            at_millis: self.at.as_deref().and_then(parse_millis),
            until_millis,
            log,
            leader_epoch: self.leader_epoch.map(LeaderEpoch::new),
        })
    }
}

pub(super) fn encode(order: &Order) -> Vec<u8> {
    let stored = StoredOrder {
        v: VERSION,
        by: bounded_text(&order.by, BY_BYTES),
        why: bounded_text(&order.why, WHY_BYTES),
        at: order.at_millis.map(format_millis),
        until: order.until_millis.map(format_millis),
        log: order.log.map(log_text),
        leader_epoch: order.leader_epoch.map(LeaderEpoch::get),
    };
    // Texts and numbers can always be written.
    serde_json::to_vec(&stored).unwrap_or_default()
}

/// `None` for one that was taken back, or that this version cannot read.
pub(super) fn decode_ack(value: Option<&[u8]>) -> Option<Ack> {
    let stored: StoredAck = serde_json::from_slice(value?).ok()?;
    Some(Ack {
        revision: Position::new(stored.revision),
        member: stored.member.map(|it| bounded_text(&it, BY_BYTES)),
        group: stored.group.map(|it| bounded_text(&it, BY_BYTES)),
        host: bounded_text(&stored.host, BY_BYTES),
        at_millis: parse_millis(&stored.at).unwrap_or(0),
        refused: stored.refused,
    })
}

pub(super) fn encode_ack(ack: &Ack) -> Vec<u8> {
    let stored = StoredAck {
        v: VERSION,
        revision: ack.revision.get(),
        member: ack.member.clone(),
        group: ack.group.clone(),
        host: ack.host.clone(),
        at: format_millis(ack.at_millis),
        refused: ack.refused,
    };
    serde_json::to_vec(&stored).unwrap_or_default()
}

fn log_text(log: LogId) -> String {
    format!("{:016x}", u64::from_le_bytes(log.to_bytes()))
}

fn parse_log(text: &str) -> Option<LogId> {
    let is_whole = text.len() == 16;
    let id = u64::from_str_radix(text, 16).ok().filter(|_| is_whole)?;
    Some(LogId::from_bytes(id.to_le_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_survives_the_round_trip_and_unknown_fields_are_ignored() {
        let order = Order {
            by: "ann".to_owned(),
            why: "the gateway is down".to_owned(),
            at_millis: Some(1_763_698_843_017),
            until_millis: Some(1_763_702_443_000),
            log: LogId::of_topic(1, 2),
            leader_epoch: Some(LeaderEpoch::new(7)),
        };
        let value = encode(&order);
        assert_eq!(decode(Some(&value)), Content::Order(order));
        let by_hand = br#"{"v": 1, "by": "ann", "colour": {"of": "hope"}}"#;
        let expected = Order {
            by: "ann".to_owned(),
            ..Order::default()
        };
        assert_eq!(decode(Some(by_hand)), Content::Order(expected));
        assert_eq!(decode(None), Content::Nothing);
    }

    #[test]
    fn a_newer_version_is_known_by_its_number_whatever_else_it_has() {
        assert_eq!(decode(Some(br#"{"v": 2, "by": 7}"#)), Content::Newer(2));
        for wrong in [
            "",
            "[]",
            "{}",
            r#"{"v": 0}"#,
            r#"{"v": "1"}"#,
            r#"{"v": 1, "by": 7}"#,
            r#"{"v": 1, "until": "tomorrow"}"#,
            r#"{"v": 1, "log": "12"}"#,
        ] {
            let decoded = decode(Some(wrong.as_bytes()));
            assert!(
                matches!(decoded, Content::Invalid(_)),
                "{wrong}: {decoded:?}"
            );
        }
        let large = format!(r#"{{"v": 1, "why": "{}"}}"#, "x".repeat(LARGEST_BYTES));
        assert!(matches!(
            decode(Some(large.as_bytes())),
            Content::Invalid(_)
        ));
        // A refusal is kept, logged and shown.
        let quoted = format!(r#"{{"v": "{}"}}"#, "x".repeat(60_000));
        let Content::Invalid(reason) = decode(Some(quoted.as_bytes())) else {
            panic!("it is refused");
        };
        assert!(reason.len() < 100 && !reason.contains("xxx"), "{reason}");
        let long = format!(r#"{{"v": 1, "why": "{}"}}"#, "x".repeat(5_000));
        let Content::Order(order) = decode(Some(long.as_bytes())) else {
            panic!("it is an order");
        };
        assert!(order.why.len() <= WHY_BYTES);
    }

    #[test]
    fn an_acknowledgement_survives_the_round_trip() {
        let ack = Ack {
            revision: Position::new(9),
            member: Some("rdkafka-1".to_owned()),
            group: Some("notifier".to_owned()),
            host: "host".to_owned(),
            at_millis: 1_763_698_843_017,
            refused: 1,
        };
        assert_eq!(decode_ack(Some(&encode_ack(&ack))), Some(ack));
        assert_eq!(decode_ack(Some(b"{}")), None);
        assert_eq!(decode_ack(None), None);
    }
}
