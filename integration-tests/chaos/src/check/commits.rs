//! G4: nothing is committed that is not settled, and no commit goes back.

use std::collections::{HashMap, HashSet};

use super::history::{History, Place};
use crate::{
    clock::{Nanos, nanos},
    evidence::{Sample, Source},
};

/// A broker that was frozen may answer with what it knew before.
const STALE_ANSWERS: Nanos = nanos(std::time::Duration::from_secs(5));

/// What was found.
#[derive(Debug, Default)]
pub struct Commits {
    /// Records that a commit claimed before they were settled.
    pub beyond_settled: Vec<String>,
    /// Commits behind an earlier one.
    pub went_back: Vec<String>,
}

/// Goes through the commits in the order in which they were seen.
pub fn check(history: &History) -> Commits {
    let offsets = offsets(history);
    let mut claimed: HashSet<Place> = HashSet::new();
    let mut highest: HashMap<(Source, i32), i64> = HashMap::new();
    let mut found = Commits::default();
    for sample in &history.evidence.samples {
        let known = offsets.get(&(sample.source, sample.partition)).map_or(&[][..], Vec::as_slice);
        for &offset in known.iter().filter(|&&offset| covers(sample, offset)) {
            let place = Place { source: sample.source, partition: sample.partition, offset };
            if claimed.insert(place) && history.settled.get(&place).is_none_or(|&settled| settled > sample.at) {
                let settled = history.settled.get(&place).map_or("never".to_owned(), |&at| history.clock(at));
                found.beyond_settled.push(format!(
                    "{place:?} was committed at {} and settled at {settled}",
                    history.clock(sample.at)
                ));
            }
        }
        let highest = highest.entry((sample.source, sample.partition)).or_insert(0);
        if sample.position < *highest && !history.outage(sample.at - STALE_ANSWERS, sample.at) {
            let Sample { source, partition, position, at, .. } = sample;
            let at = history.clock(*at);
            found.went_back.push(format!("{source:?}[{partition}] was committed at {highest}, then {position} ({at})"));
        }
        *highest = sample.position.max(*highest);
    }
    found
}

fn covers(sample: &Sample, offset: i64) -> bool {
    offset < sample.position || sample.ahead.iter().any(|&(first, last)| (first..=last).contains(&offset))
}

fn offsets(history: &History) -> HashMap<(Source, i32), Vec<i64>> {
    let mut offsets: HashMap<_, Vec<i64>> = HashMap::new();
    for record in &history.records {
        offsets.entry((record.place.source, record.place.partition)).or_default().push(record.place.offset);
    }
    for retry in &history.evidence.retries {
        offsets.entry((Source::Retry, retry.partition)).or_default().push(retry.offset);
    }
    offsets
}
