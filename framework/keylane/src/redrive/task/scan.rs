//! The first pass: which letters match, and what becomes of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};

use keylane_core::Offset;
use keylane_core::redrive::{Index, IndexLimits, Letter, LetterOrigin, TooMany};

use super::super::{Redrive, RedriveTaskError};
use super::report::Refusals;
use crate::dead_letter::{Filter, Fingerprint, StoredLetter};

/// More are not told apart.
const MOST_FINGERPRINTS: usize = 10_000;
const MOST_GROUPS: usize = 20;
const MOST_TARGETS: usize = 100;

/// What was found.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) index: Index,
    pub(super) matched: u64,
    pub(super) of_other_groups: u64,
    /// By [`RedriveError::name`](super::super::RedriveError::name).
    pub(super) refused: BTreeMap<&'static str, Refusals>,
    /// The topics that copies go to, and how many.
    pub(super) targets: BTreeMap<String, u64>,
    groups: BTreeSet<String>,
    fingerprints: Option<Histogram>,
    keys: RandomState,
}

/// How many letters fail alike.
#[derive(Debug, Default)]
struct Histogram {
    counts: HashMap<Fingerprint, u64>,
    other: u64,
}

impl Scan {
    pub(super) fn new(with_fingerprints: bool) -> Self {
        Self {
            index: Index::new(IndexLimits::default()),
            matched: 0,
            of_other_groups: 0,
            refused: BTreeMap::new(),
            targets: BTreeMap::new(),
            groups: BTreeSet::new(),
            fingerprints: with_fingerprints.then(Histogram::default),
            keys: RandomState::new(),
        }
    }

    /// The next letter. Where a group is given, those that name another one do not match.
    pub(super) fn add(
        &mut self,
        stored: &StoredLetter,
        filter: &Filter,
        group: Option<&str>,
        redrive: &Redrive,
    ) -> Result<(), RedriveTaskError> {
        if !filter.matches(stored) {
            return Ok(());
        }
        let letter = stored.letter();
        match (group, letter.group.as_deref()) {
            (Some(group), Some(named)) if named != group => {
                self.of_other_groups += 1;
                return Ok(());
            }
            (None, Some(named))
                if self.groups.len() < MOST_GROUPS && !self.groups.contains(named) =>
            {
                self.groups.insert(named.to_owned());
            }
            _ => {}
        }
        self.matched += 1;
        if let Some(histogram) = &mut self.fingerprints {
            histogram.add(stored.fingerprint());
        }
        let copy = match redrive.copy(stored) {
            Ok(copy) => copy,
            Err(error) => {
                let refused = self.refused.entry(error.name()).or_default();
                refused.add(&error);
                return Ok(());
            }
        };
        let target = copy.named_topic().unwrap_or_default();
        if let Some(count) = self.targets.get_mut(target) {
            *count += 1;
        } else if self.targets.len() < MOST_TARGETS {
            self.targets.insert(target.to_owned(), 1);
        } else {
            return Err(RedriveTaskError::Setting {
                reason: format!(
                    "the copies go to more than {MOST_TARGETS} topics; narrow the filter, for example by group"
                ),
            });
        }
        let key = stored.key().map(|key| self.keys.hash_one(key));
        let origin = letter.origin.as_ref().map(|origin| LetterOrigin {
            topic: &origin.topic,
            partition: origin.partition,
            offset: origin.offset,
        });
        let added = self.index.add(&Letter {
            partition: stored.partition(),
            offset: Offset::new(stored.offset()),
            key,
            origin,
        });
        added.map_err(|error: TooMany| error.into())
    }

    /// The group of the task: the one that was given, or the only one that letters name.
    pub(super) fn group(&self, given: Option<&str>) -> Result<String, RedriveTaskError> {
        let mut groups = self.groups.iter().map(String::as_str);
        match (given, groups.next(), groups.next()) {
            (Some(group), ..) | (None, Some(group), None) => Ok(group.to_owned()),
            (None, None, _) => Err(RedriveTaskError::NoGroup),
            (None, Some(_), Some(_)) => Err(RedriveTaskError::SeveralGroups {
                groups: self.groups.iter().cloned().collect(),
            }),
        }
    }

    /// Those that fail alike, the most frequent first, and how many others there are.
    pub(super) fn take_fingerprints(&mut self) -> (Vec<(Fingerprint, u64)>, u64) {
        let Histogram { counts, other } = self.fingerprints.take().unwrap_or_default();
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by(|(a, of_a), (b, of_b)| of_b.cmp(of_a).then_with(|| a.cmp(b)));
        (counts, other)
    }
}

impl Histogram {
    fn add(&mut self, fingerprint: Fingerprint) {
        if let Some(count) = self.counts.get_mut(&fingerprint) {
            *count += 1;
        } else if self.counts.len() < MOST_FINGERPRINTS {
            self.counts.insert(fingerprint, 1);
        } else {
            self.other += 1;
        }
    }
}
