//! The first pass: which letters match, and what becomes of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};

use keylane_core::Offset;
use keylane_core::redrive::{Index, IndexLimits, Letter, LetterOrigin, Order, TooMany};

use super::super::ops::Handled;
use super::super::{LetterRange, Letters, Redrive, RedriveTaskError};
use super::RedriveTask;
use super::report::Refusals;
use crate::dead_letter::{Filter, Fingerprint, StoredLetter};
use crate::kafka::log_of;

/// More are not told apart.
const MOST_FINGERPRINTS: usize = 10_000;
const MOST_GROUPS: usize = 20;
/// The most topics that copies go to.
const MOST_TARGETS: usize = 100;
/// The most topics that matching letters name.
const MOST_NAMES: usize = 10_000;

/// What was found.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) index: Index,
    pub(super) matched: u64,
    pub(super) of_other_groups: u64,
    /// By [`RedriveError::name`](super::super::RedriveError::name).
    pub(super) refused: BTreeMap<&'static str, Refusals>,
    /// Records that are no dead letters.
    pub(super) not_letters: u64,
    /// What was read.
    pub(super) ranges: Vec<LetterRange>,
    /// The id of the log that was read, where a broker has named it.
    pub(super) log: Option<String>,
    /// The topics that letters go back to, by name, with their numbers.
    targets: BTreeMap<String, u16>,
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
    pub(super) fn new(with_fingerprints: bool, log: Option<String>) -> Self {
        Self {
            index: Index::new(IndexLimits::default()),
            matched: 0,
            of_other_groups: 0,
            refused: BTreeMap::new(),
            not_letters: 0,
            ranges: Vec::new(),
            log,
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
        let target = self.target(copy.named_topic().unwrap_or_default())?;
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
            target,
        });
        added.map_err(|error: TooMany| error.into())
    }

    fn target(&mut self, name: &str) -> Result<u16, RedriveTaskError> {
        if let Some(number) = self.targets.get(name) {
            return Ok(*number);
        }
        let number = u16::try_from(self.targets.len()).ok();
        let number = number.filter(|it| usize::from(*it) < MOST_NAMES);
        let number = number.ok_or_else(|| too_many_targets(MOST_NAMES))?;
        self.targets.insert(name.to_owned(), number);
        Ok(number)
    }

    /// Leaves out letters that were redriven or resolved before, and says how many.
    pub(super) fn leave_out(&mut self, handled: &Handled) -> u64 {
        let before = self.index.len();
        (self.index).retain(|partition, offset| !handled.contains(partition, offset.get()));
        (before - self.index.len()) as u64
    }

    /// The topics that the copies go to, and how many.
    pub(super) fn targets(&self) -> Result<BTreeMap<String, u64>, RedriveTaskError> {
        let counts = self.index.targets();
        if counts.len() > MOST_TARGETS {
            return Err(too_many_targets(MOST_TARGETS));
        }
        let named = self.targets.iter();
        let counted = named.filter_map(|(name, number)| Some((name.clone(), *counts.get(number)?)));
        Ok(counted.collect())
    }

    /// The order of the copies, and the last turn of each topic that copies go to, of the first `max`
    /// turns.
    pub(super) fn into_order(self, max: Option<u64>) -> (Order, BTreeMap<String, u64>) {
        let Self { index, targets, .. } = self;
        let (order, last) = index.into_order_and_last_turns(max.unwrap_or(u64::MAX));
        let named = targets.into_iter();
        let last = named.filter_map(|(name, number)| Some((name, *last.get(&number)?)));
        (order, last.collect())
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

impl RedriveTask {
    /// The first pass. Its future holds nothing of the task that threads cannot share.
    pub(super) fn scan(
        &self,
        with_fingerprints: bool,
    ) -> impl Future<Output = Result<Scan, RedriveTaskError>> + Send + '_ {
        let connection = self.connection.clone();
        let mut letters = Letters::of(&self.topic)
            .bootstrap_servers(connection.bootstrap_servers.clone())
            .kafka_settings(connection.kafka.clone())
            .patience(connection.patience);
        if let Some(ranges) = &self.ranges {
            letters = letters.ranges(ranges.iter().copied());
        }
        let (filter, group, redrive) = (&self.filter, self.group.as_deref(), &self.redrive);
        let name = self.topic.clone();
        async move {
            // Before the letters: the topic may be re-created while they are read.
            let (config, patience) = (connection.side_client()?, connection.patience);
            let log = tokio::task::spawn_blocking(move || log_of(&config, &name, patience));
            let log = log.await.unwrap_or_default();
            let mut letters = letters.read().await?;
            let mut scan = Scan::new(with_fingerprints, log);
            while let Some(letter) = letters.next().await {
                scan.add(&letter?, filter, group, redrive)?;
            }
            scan.ranges = letters.ranges().to_vec();
            scan.not_letters = letters.not_letters();
            Ok(scan)
        }
    }
}

fn too_many_targets(most: usize) -> RedriveTaskError {
    RedriveTaskError::Setting {
        reason: format!(
            "the copies go to more than {most} topics; narrow the filter, for example by group"
        ),
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
