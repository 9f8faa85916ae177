//! The topic whose log was cut: what is in the log in the end, and committed, was processed.
//! Records are compared by content and not by offset: offsets are used twice.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
};

use serde::Serialize;

use super::history::{HistoryError, journals};
use crate::{
    evidence::{self, Cuts},
    fate::Value,
    journal::{Line, Note, Outcome},
};

/// What was found.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct CutReport {
    /// Records in the log in the end.
    pub log: usize,
    /// Records that the brokers had acknowledged and have cut.
    pub cut_off: usize,
    /// Those of them that had been processed.
    pub cut_off_and_done: usize,
    /// Records in the log that are committed and were not processed. A violation.
    pub lost: usize,
    /// Records in the log that are neither. A violation: all was healed.
    pub unfinished: usize,
    /// Records that became dead letters, though each of them works. A violation.
    pub given_up: usize,
}

/// What is wrong, in words.
#[derive(Debug, Default)]
pub struct Findings {
    /// The figures.
    pub report: CutReport,
    /// The same as [`CutReport::lost`].
    pub lost: Vec<String>,
    /// The same as [`CutReport::unfinished`].
    pub unfinished: Vec<String>,
    /// The same as [`CutReport::given_up`].
    pub given_up: Vec<String>,
}

/// Reads what a run left in `directory`; nothing where no log was to be cut.
///
/// # Errors
/// When files are missing or damaged.
pub fn load(directory: &Path) -> Result<Option<Findings>, HistoryError> {
    let failed = |error| HistoryError::File(directory.display().to_string(), error);
    let Some(cuts) = Cuts::load(directory).map_err(failed)? else {
        return Ok(None);
    };
    Ok(Some(check(&cuts, &journals(&evidence::cut(directory))?)))
}

fn check(cuts: &Cuts, members: &BTreeMap<String, Vec<Line<Note>>>) -> Findings {
    let done: HashSet<u64> = members
        .values()
        .flatten()
        .filter_map(|line| done(&line.what))
        .collect();
    let committed: HashMap<i32, i64> = cuts.committed.iter().copied().collect();
    let mut findings = Findings::default();
    let mut there = HashSet::new();
    for record in &cuts.log {
        let Ok(value) = record.value.parse::<Value>() else {
            continue;
        };
        there.insert(value.id);
        if done.contains(&value.id) {
            continue;
        }
        let is_committed = record.offset < committed.get(&record.partition).copied().unwrap_or(0);
        let list = if is_committed {
            &mut findings.lost
        } else {
            &mut findings.unfinished
        };
        list.push(format!("[{}]@{}, {value}", record.partition, record.offset));
    }
    findings.given_up = cuts
        .dead_letters
        .iter()
        .map(|letter| format!("{} ({})", letter.id, letter.reason))
        .collect();
    let cut_off: Vec<u64> = cuts
        .acknowledged
        .iter()
        .map(|record| record.id)
        .filter(|id| !there.contains(id))
        .collect();
    findings.report = CutReport {
        log: cuts.log.len(),
        cut_off: cut_off.len(),
        cut_off_and_done: cut_off.iter().filter(|id| done.contains(id)).count(),
        lost: findings.lost.len(),
        unfinished: findings.unfinished.len(),
        given_up: findings.given_up.len(),
    };
    findings
}

fn done(note: &Note) -> Option<u64> {
    match note {
        Note::Ended {
            attempt,
            outcome: Outcome::Done,
        } => Some(attempt.id),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{CutReport, check};
    use crate::{
        evidence::{Cuts, Produced},
        fate::{Fate, Value},
        journal::{Attempt, Line, Note, Outcome},
        load::Acknowledged,
    };

    /// A log of these records in the end, what was acknowledged and what was processed, and how far
    /// it is committed.
    fn report(log: &[u64], acknowledged: &[u64], done: &[u64], committed: i64) -> CutReport {
        let produced = |(offset, &id): (usize, &u64)| Produced {
            partition: 0,
            offset: i64::try_from(offset).unwrap(),
            key: None,
            value: Value {
                id,
                fate: Fate::Works(1),
            }
            .to_string(),
        };
        let taken = |&id: &u64| Acknowledged {
            id,
            partition: 0,
            offset: 0,
            at: 0,
        };
        let ended = |&id: &u64| {
            let attempt = Attempt {
                topic: "t".into(),
                partition: 0,
                offset: 0,
                key: None,
                id,
                epoch: 1,
                attempt: 1,
            };
            Line {
                at: 0,
                what: Note::Ended {
                    attempt,
                    outcome: Outcome::Done,
                },
            }
        };
        let cuts = Cuts {
            log: log.iter().enumerate().map(produced).collect(),
            committed: vec![(0, committed)],
            acknowledged: acknowledged.iter().map(taken).collect(),
            dead_letters: vec![],
        };
        let members = BTreeMap::from([("c0.0".to_owned(), done.iter().map(ended).collect())]);
        check(&cuts, &members).report
    }

    #[test]
    fn what_was_cut_is_not_lost_and_what_came_in_its_place_is_where_it_was_not_processed() {
        // 2 and 3 were cut, 4 and 5 have their offsets.
        let all = report(&[0, 1, 4, 5], &[0, 1, 2, 3, 4, 5], &[0, 1, 2, 4, 5], 4);
        assert_eq!(
            all,
            CutReport {
                log: 4,
                cut_off: 2,
                cut_off_and_done: 1,
                ..CutReport::default()
            }
        );
        let passed_over = report(&[0, 1, 4, 5], &[0, 1, 2, 3, 4, 5], &[0, 1, 2, 3, 5], 4);
        assert_eq!((passed_over.lost, passed_over.unfinished), (1, 0));
        let waiting = report(&[0, 1, 4, 5], &[0, 1, 4, 5], &[0, 1], 3);
        assert_eq!((waiting.lost, waiting.unfinished), (1, 1));
    }
}
