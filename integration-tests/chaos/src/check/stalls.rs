//! How long each partition made no progress while records waited.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::history::{History, Place};
use crate::{
    clock::{Nanos, seconds},
    evidence::Source,
};

/// The longest stall of a partition.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stall {
    /// The partition.
    pub partition: i32,
    /// How long.
    pub seconds: f64,
    /// When it began, in seconds after the first attempt.
    pub at: f64,
    /// What was done to the group in or shortly before that time.
    pub during: Vec<&'static str>,
}

/// The longest stall of each partition of the origin topic while records were written, by
/// partition.
pub fn find(history: &History) -> Vec<Stall> {
    let began = history.attempts.first().map_or(0, |attempt| attempt.start);
    let stall = |(partition, moments): (i32, Vec<(Nanos, i64)>)| {
        let (length, from) = longest(moments, history.load_stopped);
        let during: BTreeSet<_> = history
            .troubles
            .iter()
            .filter(|trouble| trouble.span.meets(from, from + length))
            .map(|trouble| trouble.what)
            .collect();
        let at = if length == 0 {
            0.0
        } else {
            seconds(from - began)
        };
        Stall {
            partition,
            seconds: seconds(length),
            at,
            during: during.into_iter().collect(),
        }
    };
    moments(history, began).into_iter().map(stall).collect()
}

/// When a record began to wait (+1), and when one was settled (-1), by partition.
fn moments(history: &History, began: Nanos) -> BTreeMap<i32, Vec<(Nanos, i64)>> {
    let mut moments: BTreeMap<i32, Vec<(Nanos, i64)>> = BTreeMap::new();
    for record in &history.evidence.acknowledged {
        let place = Place {
            source: Source::Origin,
            partition: record.partition,
            offset: record.offset,
        };
        let settled = history.settled.get(&place).copied();
        let moments = moments.entry(record.partition).or_default();
        // The group has to come together first; and the word of the brokers may come after a record
        // is done.
        moments.push((record.at.max(began).min(settled.unwrap_or(Nanos::MAX)), 1));
        moments.extend(settled.map(|at| (at, -1)));
    }
    moments
}

/// The longest time without a settlement while records wait, up to `until`, and when it began.
fn longest(mut moments: Vec<(Nanos, i64)>, until: Nanos) -> (Nanos, Nanos) {
    // A record that waits and is settled at one moment waits first.
    moments.sort_unstable_by_key(|&(at, change)| (at, -change));
    let (mut waiting, mut since, mut longest) = (0, 0, (0, 0));
    for (at, change) in moments {
        let at = at.min(until);
        if waiting > 0 && at - since > longest.0 {
            longest = (at - since, since);
        }
        if change < 0 || waiting == 0 {
            since = at;
        }
        waiting += change;
    }
    if waiting > 0 && until != Nanos::MAX && until - since > longest.0 {
        longest = (until - since, since);
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::longest;

    #[test]
    fn a_stall_is_the_time_without_a_settlement_while_something_waits() {
        // Nothing waits from 20 to 100; from 100 on one does, until 130.
        assert_eq!(
            longest(vec![(0, 1), (20, -1), (100, 1), (130, -1)], 1_000),
            (30, 100)
        );
        // A second one that begins to wait makes it no shorter.
        assert_eq!(
            longest(vec![(0, 1), (40, 1), (50, -1), (60, -1)], 1_000),
            (50, 0)
        );
        // What waits in the end waits until the end.
        assert_eq!(longest(vec![(0, 1), (10, -1), (20, 1)], 100), (80, 20));
    }
}
