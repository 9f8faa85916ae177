//! The forms of fields in JSON.

use std::time::SystemTime;

use keylane_core::redrive::Canary;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::kafka::LetterRange;
use crate::record::time_of;
use crate::support::rfc3339;

pub(in super::super) mod time {
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

pub(in super::super) mod maybe_time {
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
pub(in super::super) mod ranges {
    use super::*;

    pub(in super::super::super) fn serialize<S: Serializer>(
        ranges: &[LetterRange],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(ranges.iter().map(|it| (it.partition, it.first, it.end)))
    }

    pub(in super::super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<LetterRange>, D::Error> {
        let all = Vec::<(i32, i64, i64)>::deserialize(deserializer)?;
        let range = |(partition, first, end)| LetterRange::new(partition, first, end);
        Ok(all.into_iter().map(range).collect())
    }
}

/// Ranges that may not be given.
pub(in super::super) mod some_ranges {
    use super::*;

    pub(in super::super::super) fn serialize<S: Serializer>(
        ranges: &Option<Vec<LetterRange>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match ranges {
            Some(all) => ranges::serialize(all, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(in super::super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<LetterRange>>, D::Error> {
        let all = Option::<Vec<(i32, i64, i64)>>::deserialize(deserializer)?;
        let range = |(partition, first, end)| LetterRange::new(partition, first, end);
        Ok(all.map(|all| all.into_iter().map(range).collect()))
    }
}

/// Ascending numbers as ranges: first and last.
pub(in super::super) mod numbers {
    use super::*;

    /// A foreign range may be of any length.
    const MOST: u64 = 10_000_000;

    pub(in super::super::super) fn ranges(numbers: &[u64]) -> impl Iterator<Item = (u64, u64)> {
        let chunks = numbers.chunk_by(|number, next| number + 1 == *next);
        chunks.filter_map(|chunk| Some((*chunk.first()?, *chunk.last()?)))
    }

    pub(in super::super) fn serialize<S: Serializer>(
        numbers: &[u64],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(ranges(numbers))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u64>, D::Error> {
        let mut numbers = Vec::new();
        for (first, last) in Vec::<(u64, u64)>::deserialize(deserializer)? {
            let most = MOST.saturating_sub(numbers.len() as u64);
            if last < first || last - first >= most {
                return Err(serde::de::Error::custom("no range of letters"));
            }
            numbers.extend(first..=last);
        }
        Ok(numbers)
    }
}
