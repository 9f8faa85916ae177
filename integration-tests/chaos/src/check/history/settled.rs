//! When each record was settled first.

use std::collections::HashMap;

use super::{History, Place};
use crate::{
    clock::Nanos,
    evidence::{self, Evidence, Source},
};

/// The brokers' time stamps are whole milliseconds of another clock.
const STAMP_ERROR: Nanos = 2_000_000;

pub(super) fn settled(history: &History) -> HashMap<Place, Nanos> {
    let mut settled: HashMap<Place, Nanos> = HashMap::new();
    let mut settle = |place: Place, at: Nanos| {
        let first = settled.entry(place).or_insert(at);
        *first = at.min(*first);
    };
    for attempt in history.attempts.iter().filter(|attempt| attempt.settled()) {
        settle(attempt.place, attempt.end);
    }
    let Evidence {
        retries,
        dead_letters,
        ..
    } = &history.evidence;
    let mut copies: HashMap<u64, Vec<&evidence::Written>> = HashMap::new();
    for written in retries.iter().chain(dead_letters) {
        copies.entry(written.id).or_default().push(written);
    }
    for record in &history.records {
        for copy in copies.get(&record.value.id).into_iter().flatten() {
            settle(record.place, copy.at - STAMP_ERROR);
        }
    }
    for retry in retries {
        let place = Place {
            source: Source::Retry,
            partition: retry.partition,
            offset: retry.offset,
        };
        for copy in copies.get(&retry.id).into_iter().flatten() {
            if (copy.round == 0 || copy.round > retry.round) && copy.at >= retry.at {
                settle(place, copy.at - STAMP_ERROR);
            }
        }
    }
    settled
}
