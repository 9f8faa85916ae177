//! G4: nothing is committed that is not settled, and no commit goes back.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use super::history::{History, Place};
use crate::{
    clock::{Nanos, nanos},
    evidence::{Sample, Source},
    settings::Protocol,
};

/// A broker that was frozen may answer with what it knew before.
const STALE_ANSWERS: Nanos = nanos(Duration::from_secs(5));

/// A commit that the client sent again is made good by the next one that it makes by itself: a
/// commit interval later, and on a busy machine some more.
const MADE_GOOD: Nanos = nanos(Duration::from_secs(10));

/// What was found.
#[derive(Debug, Default)]
pub struct Commits {
    /// Records that a commit claimed before they were settled.
    pub beyond_settled: Vec<String>,
    /// Commits behind an earlier one.
    pub went_back: Vec<String>,
    /// Those of them that the client sent again after a newer one, since they had met a change of
    /// the member's epoch.
    pub sent_again: usize,
}

/// Goes through the commits in the order in which they were seen.
pub fn check(history: &History) -> Commits {
    let offsets = offsets(history);
    let mut claimed: HashSet<Place> = HashSet::new();
    let mut highest: HashMap<(Source, i32), i64> = HashMap::new();
    let mut found = Commits::default();
    for (index, sample) in history.evidence.samples.iter().enumerate() {
        let known = offsets
            .get(&(sample.source, sample.partition))
            .map_or(&[][..], Vec::as_slice);
        for &offset in known.iter().filter(|&&offset| covers(sample, offset)) {
            let place = Place {
                source: sample.source,
                partition: sample.partition,
                offset,
            };
            if claimed.insert(place)
                && history
                    .settled
                    .get(&place)
                    .is_none_or(|&settled| settled > sample.at)
            {
                let settled = history
                    .settled
                    .get(&place)
                    .map_or("never".to_owned(), |&at| history.clock(at));
                found.beyond_settled.push(format!(
                    "{place:?} was committed at {} and settled at {settled}",
                    history.clock(sample.at)
                ));
            }
        }
        let highest = highest
            .entry((sample.source, sample.partition))
            .or_insert(0);
        if sample.position < *highest && !history.outage(sample.at - STALE_ANSWERS, sample.at) {
            if was_sent_again(history, index, *highest) {
                found.sent_again += 1;
            } else {
                let Sample {
                    source,
                    partition,
                    position,
                    at,
                    ..
                } = sample;
                let (highest, at) = (*highest, history.clock(*at));
                let words = format!(
                    "{source:?}[{partition}] was committed at {highest}, then {position} ({at})"
                );
                found.went_back.push(words);
            }
        }
        *highest = sample.position.max(*highest);
    }
    found
}

/// Whether the step back at `index`, from `highest`, is one that librdkafka makes with
/// `group.protocol=consumer`: an automatic commit that is refused for the member's old epoch
/// (STALE_MEMBER_EPOCH) is sent again, perhaps after a newer one. It only repeats work, and not for
/// long.
fn was_sent_again(history: &History, index: usize, highest: i64) -> bool {
    let samples = &history.evidence.samples;
    let back = &samples[index];
    let of_the_partition = |later: &&Sample| {
        later.source == back.source
            && later.partition == back.partition
            && later.at <= back.at + MADE_GOOD
    };
    history.evidence.common.protocol == Protocol::Consumer
        && samples[index + 1..]
            .iter()
            .filter(of_the_partition)
            .any(|later| later.position >= highest)
}

fn covers(sample: &Sample, offset: i64) -> bool {
    offset < sample.position
        || sample
            .ahead
            .iter()
            .any(|&(first, last)| (first..=last).contains(&offset))
}

fn offsets(history: &History) -> HashMap<(Source, i32), Vec<i64>> {
    let mut offsets: HashMap<_, Vec<i64>> = HashMap::new();
    for record in &history.records {
        offsets
            .entry((record.place.source, record.place.partition))
            .or_default()
            .push(record.place.offset);
    }
    for retry in &history.evidence.retries {
        offsets
            .entry((Source::Retry, retry.partition))
            .or_default()
            .push(retry.offset);
    }
    offsets
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{Story, calm},
        check,
    };
    use crate::{
        journal::{Deed, Outcome},
        settings::Protocol,
    };

    #[test]
    fn the_offset_and_the_metadata_may_claim_only_what_is_settled_by_then() {
        let beyond = |story: Story| check(&story.history()).beyond_settled.len();
        // Settled at 50, 150 and 250.
        assert_eq!(beyond(calm().committed(60, 1, &[])), 0);
        let early =
            Story::of(3)
                .ran("a", 0, (0, 50), Outcome::Done)
                .ran("a", 2, (0, 250), Outcome::Done);
        assert_eq!(
            beyond(early.committed(100, 1, &[]).committed(200, 1, &[(2, 2)])),
            1
        );
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
        assert_eq!(
            check(&story.committed(60, 2, &[]).history())
                .beyond_settled
                .len(),
            0
        );
    }

    #[test]
    fn a_commit_that_goes_back_is_found_unless_a_broker_was_away() {
        let back = || calm().committed(1_000, 3, &[]).committed(2_000, 2, &[]);
        assert_eq!(check(&back().history()).went_back.len(), 1);
        let out = Deed::Out {
            what: "broker 2".into(),
        };
        assert_eq!(check(&back().deed(1_500, out).history()).went_back.len(), 0);
    }

    #[test]
    fn with_the_consumer_protocol_a_commit_that_was_sent_again_is_counted_where_it_is_soon_made_good()
     {
        let found = |protocol, after: &[(i64, i64)]| {
            let story = calm().protocol(protocol).committed(2_000, 1, &[]);
            let story = after.iter().fold(story, |story, &(at, position)| {
                story.committed(at, position, &[])
            });
            let commits = check(&story.history());
            (commits.went_back.len(), commits.sent_again)
        };
        assert_eq!(found(Protocol::Consumer, &[(2_500, 3)]), (0, 1));
        assert_eq!(
            found(Protocol::Consumer, &[(2_500, 2), (12_000, 3)]),
            (0, 2)
        );
        // Not as far as it was, too late, and never.
        assert_eq!(found(Protocol::Consumer, &[(2_500, 2)]), (2, 0));
        assert_eq!(found(Protocol::Consumer, &[(12_100, 3)]), (1, 0));
        assert_eq!(found(Protocol::Consumer, &[]), (1, 0));
        for classic in [Protocol::Classic, Protocol::Cooperative] {
            assert_eq!(found(classic, &[(2_500, 3)]), (1, 0));
        }
    }

    #[test]
    fn what_another_partition_commits_makes_nothing_good() {
        let story = calm()
            .protocol(Protocol::Consumer)
            .committed(2_000, 1, &[])
            .committed_elsewhere(2_500, 3);
        assert_eq!(check(&story.history()).went_back.len(), 1);
    }
}
