//! Two groups on the same topics: each group's retries are that group's alone.

use std::collections::{HashMap, HashSet};

use super::history::History;
use crate::evidence::Source;

/// How often a round of a record may be written into the retry topic. Each member that dies may
/// write it once more.
const COPIES: usize = 10;

/// What was found.
#[derive(Debug, Default)]
pub struct Foreign {
    /// Attempts at records of the retry topic that another group wrote.
    pub processed: Vec<String>,
    /// Records that came into the retry topic again and again.
    pub multiplied: Vec<String>,
}

/// Goes through attempts and retries.
pub fn check(history: &History) -> Foreign {
    let foreign: HashSet<(i32, i64)> = history.evidence.foreign_retries.iter().copied().collect();
    let is_foreign = |attempt: &&super::history::Attempt| {
        attempt.place.source == Source::Retry
            && foreign.contains(&(attempt.place.partition, attempt.place.offset))
    };
    let processed = history
        .attempts
        .iter()
        .filter(is_foreign)
        .map(|attempt| history.show(attempt))
        .collect();
    let mut copies: HashMap<(u64, u32), usize> = HashMap::new();
    for retry in &history.evidence.retries {
        *copies.entry((retry.id, retry.round)).or_default() += 1;
    }
    let many = copies.into_iter().filter(|&(_, copies)| copies > COPIES);
    let words =
        |((id, round), copies)| format!("record {id}: {copies} copies of its round {round}");
    Foreign {
        processed,
        multiplied: many.map(words).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::Story, check};
    use crate::journal::Outcome;

    #[test]
    fn an_attempt_at_a_retry_of_another_group_is_found() {
        let story = || {
            Story::of(1)
                .ran("a", 0, (0, 1), Outcome::Failed)
                .retry(0, 3, 5, 1)
                .foreign_retry(4)
        };
        let own = story().attempt("a", 1, ("t-retry", 3, 2), (20, 30), Some(Outcome::Done));
        assert_eq!(check(&own.history()).processed.len(), 0);
        let foreign = story().attempt("a", 1, ("t-retry", 4, 2), (20, 30), Some(Outcome::Done));
        assert_eq!(check(&foreign.history()).processed.len(), 1);
    }

    #[test]
    fn a_round_that_is_written_again_and_again_is_found() {
        let story =
            |copies| (0..copies).fold(Story::of(1), |story, place| story.retry(0, place, 5, 1));
        assert_eq!(check(&story(10).history()).multiplied.len(), 0);
        assert_eq!(check(&story(11).history()).multiplied.len(), 1);
        let rounds = (0..20).fold(Story::of(1), |story, round| {
            story.retry(0, round, 5, u32::try_from(round).unwrap())
        });
        assert_eq!(check(&rounds.history()).multiplied.len(), 0);
    }
}
