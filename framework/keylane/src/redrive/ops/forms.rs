//! The forms of fields in JSON.

use std::time::SystemTime;

use keylane_core::redrive::Canary;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::kafka::LetterRange;
use crate::record::time_of;
use crate::support::rfc3339;

pub(super) mod time {
    use super::*;

    pub(super) fn text(at: SystemTime) -> String {
        let since = at
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        rfc3339::format_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    pub(in super::super) fn serialize<S: Serializer>(
        at: &SystemTime,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&text(*at))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<SystemTime, D::Error> {
        let text = String::deserialize(deserializer)?;
        let at = rfc3339::parse_millis(&text).and_then(time_of);
        at.ok_or_else(|| serde::de::Error::custom("no time"))
    }
}

pub(super) mod maybe_time {
    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(
        at: &Option<SystemTime>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        at.map(time::text).serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SystemTime>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        Ok(text.and_then(|text| rfc3339::parse_millis(&text).and_then(time_of)))
    }
}

pub(super) mod canary {
    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(
        canary: &Option<Canary>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        canary
            .map(|it| (it.copies, it.percent))
            .serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Canary>, D::Error> {
        let pair = Option::<(u32, u8)>::deserialize(deserializer)?;
        Ok(pair.map(|(copies, percent)| Canary { copies, percent }))
    }
}

/// A range as partition, first offset, and the offset behind the last one.
pub(super) mod ranges {
    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(
        ranges: &[LetterRange],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(ranges.iter().map(|it| (it.partition, it.first, it.end)))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<LetterRange>, D::Error> {
        let all = Vec::<(i32, i64, i64)>::deserialize(deserializer)?;
        let range = |(partition, first, end)| LetterRange::new(partition, first, end);
        Ok(all.into_iter().map(range).collect())
    }
}
