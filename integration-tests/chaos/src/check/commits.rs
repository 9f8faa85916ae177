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
                found
                    .beyond_settled
                    .push(format!("{place:?} was committed at {} and settled at {settled}", history.clock(sample.at)));
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

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{Story, calm},
        check,
    };
    use crate::journal::{Deed, Outcome};

    #[test]
    fn the_offset_and_the_metadata_may_claim_only_what_is_settled_by_then() {
        let beyond = |story: Story| check(&story.history()).beyond_settled.len();
        // Settled at 50, 150 and 250.
        assert_eq!(beyond(calm().committed(60, 1, &[])), 0);
        let early = Story::of(3).ran("a", 0, (0, 50), Outcome::Done).ran("a", 2, (0, 250), Outcome::Done);
        assert_eq!(beyond(early.committed(100, 1, &[]).committed(200, 1, &[(2, 2)])), 1);
        let early = Story::of(3).ran("a", 0, (0, 50), Outcome::Done);
        assert_eq!(beyond(early.committed(40, 1, &[]).committed(60, 3, &[])), 3);
    }

    #[test]
    fn a_retry_and_a_dead_letter_are_settlements() {
        let story = Story::of(2)
            .ran("a", 0, (0, 10), Outcome::Failed)
            .retry(0, 5, 20, 1)
            .ran("a", 1, (30, 40), Outcome::Failed)
            .dead_letter(1, 50, "fatal");
        assert_eq!(check(&story.committed(60, 2, &[]).history()).beyond_settled.len(), 0);
    }

    #[test]
    fn a_commit_that_goes_back_is_found_unless_a_broker_was_away() {
        let back = || calm().committed(1_000, 3, &[]).committed(2_000, 2, &[]);
        assert_eq!(check(&back().history()).went_back.len(), 1);
        let out = Deed::Out { what: "broker 2".into() };
        assert_eq!(check(&back().deed(1_500, out).history()).went_back.len(), 0);
    }
}
