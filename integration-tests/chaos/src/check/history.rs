//! All journals and the evidence of a run as one history, in one time.

mod life;
mod settled;
mod troubles;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs, io,
    path::Path,
    time::Duration,
};

use crate::{
    clock::{Nanos, nanos, seconds},
    downstream::Outage,
    evidence::{self, Evidence, PROGRAM, Source},
    fate::{Fate, Value},
    journal::{self, Deed, Line, Note, Outcome, ReadError},
};
use life::life;
pub use life::{End, Life};
use settled::settled;
use troubles::{away, outages, troubles};

/// A span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Its beginning.
    pub from: Nanos,
    /// Its end.
    pub to: Nanos,
}

impl Span {
    /// Whether it has a moment in common with the time between two others.
    pub fn meets(self, from: Nanos, to: Nanos) -> bool {
        self.from <= to && from <= self.to
    }
}

/// Where a record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The topic.
    pub source: Source,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

/// A record of the origin topic.
#[derive(Debug, Clone)]
pub struct Record {
    /// Where it lies.
    pub place: Place,
    /// Its key.
    pub key: Option<String>,
    /// Its number and its fate.
    pub value: Value,
}

/// One attempt.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The process that made it: an index into [`History::lives`].
    pub life: usize,
    /// The record.
    pub place: Place,
    /// The record's key.
    pub key: Option<String>,
    /// The record's number.
    pub id: u64,
    /// The process's epoch of the partition.
    pub epoch: u32,
    /// Which attempt.
    pub number: u32,
    /// When it began.
    pub start: Nanos,
    /// When it ended; with its process at the latest.
    pub end: Nanos,
    /// How; `None` where it ended with its process.
    pub outcome: Option<Outcome>,
}

impl Attempt {
    /// Whether it settled the record.
    pub fn settled(&self) -> bool {
        matches!(self.outcome, Some(Outcome::Done | Outcome::Skipped))
    }
}

/// Something that was done to the group, for those who ask what a stall was about.
#[derive(Debug, Clone)]
pub struct Trouble {
    /// From its beginning to the end of its aftermath.
    pub span: Span,
    /// What.
    pub what: &'static str,
}

/// A run.
#[derive(Debug, Clone)]
pub struct History {
    /// What was read back.
    pub evidence: Evidence,
    /// The origin topic.
    pub records: Vec<Record>,
    /// All processes.
    pub lives: Vec<Life>,
    /// All attempts, by their beginning.
    pub attempts: Vec<Attempt>,
    /// When a broker was away, with the time until clients have found their way.
    pub outages: Vec<Span>,
    /// When what the processors wait for was away, and for whom.
    pub away: Vec<(Span, Outage)>,
    /// All that was done.
    pub troubles: Vec<Trouble>,
    /// When the last record had been written.
    pub load_stopped: Nanos,
    /// What was parked at some time.
    pub parked: HashSet<Place>,
    /// When each record was settled first: by an attempt, on the retry topic, or as a dead letter.
    pub settled: HashMap<Place, Nanos>,
}

/// Why a run cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// A file.
    #[error("cannot read the evidence in {0}: {1}")]
    File(String, io::Error),
    /// A journal.
    #[error(transparent)]
    Journal(#[from] ReadError),
}

/// The journals of a group's members, by their names.
pub(super) fn journals(group: &Path) -> Result<BTreeMap<String, Vec<Line<Note>>>, HistoryError> {
    let missing = |error| HistoryError::File(group.display().to_string(), error);
    let mut members = BTreeMap::new();
    for entry in fs::read_dir(evidence::members(group)).map_err(missing)? {
        let path = entry.map_err(missing)?.path();
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path
            .extension()
            .is_some_and(|extension| extension == "jsonl")
        {
            members.insert(name, journal::read::<Note>(&path)?);
        }
    }
    Ok(members)
}

impl History {
    /// Reads what a run left in `directory`.
    ///
    /// # Errors
    /// When files are missing or damaged.
    pub fn load(directory: &Path) -> Result<Self, HistoryError> {
        Self::load_group(directory, directory)
    }

    /// Reads what the second group of a run left in `directory`, if there was one.
    ///
    /// # Errors
    /// When files are missing or damaged.
    pub fn load_second(directory: &Path) -> Result<Option<Self>, HistoryError> {
        let second = evidence::second(directory);
        if !evidence::is_there(&second) {
            return Ok(None);
        }
        Self::load_group(directory, &second).map(Some)
    }

    fn load_group(run: &Path, group: &Path) -> Result<Self, HistoryError> {
        let evidence = Evidence::load(group)
            .map_err(|error| HistoryError::File(group.display().to_string(), error))?;
        let deeds: Vec<Line<Deed>> = journal::read(&run.join(PROGRAM))?;
        Ok(Self::new(evidence, &deeds, &journals(group)?))
    }

    /// Puts together what was read.
    pub fn new(
        evidence: Evidence,
        deeds: &[Line<Deed>],
        members: &BTreeMap<String, Vec<Line<Note>>>,
    ) -> Self {
        let records = evidence.produced.iter().map(|produced| Record {
            place: Place {
                source: Source::Origin,
                partition: produced.partition,
                offset: produced.offset,
            },
            key: produced.key.clone(),
            value: produced.value.parse().unwrap_or(Value {
                id: u64::MAX,
                fate: Fate::Fatal,
            }),
        });
        let mut history = Self {
            records: records.collect(),
            lives: Vec::new(),
            attempts: Vec::new(),
            outages: outages(deeds),
            away: away(deeds),
            troubles: troubles(deeds),
            load_stopped: deeds
                .iter()
                .find(|line| line.what == Deed::LoadStopped)
                .map_or(Nanos::MAX, |line| line.at),
            parked: HashSet::new(),
            settled: HashMap::new(),
            evidence,
        };
        for (name, notes) in members {
            history.add_life(name, notes, deeds);
        }
        history.attempts.sort_by_key(|attempt| attempt.start);
        history.settled = settled(&history);
        history
    }

    fn add_life(&mut self, name: &str, notes: &[Line<Note>], deeds: &[Line<Deed>]) {
        let mut life = life(name, notes, deeds);
        let index = self.lives.len();
        let mut open: HashMap<(Place, u32, u32), usize> = HashMap::new();
        for line in notes {
            let place = |attempt: &journal::Attempt| {
                self.place(&attempt.topic, attempt.partition, attempt.offset)
            };
            let key = |attempt: &journal::Attempt| (place(attempt), attempt.epoch, attempt.attempt);
            match &line.what {
                Note::Started(attempt) => {
                    open.insert(key(attempt), self.attempts.len());
                    self.attempts.push(Attempt {
                        life: index,
                        place: place(attempt),
                        key: attempt.key.clone(),
                        id: attempt.id,
                        epoch: attempt.epoch,
                        number: attempt.attempt,
                        start: line.at,
                        end: life.gone,
                        outcome: None,
                    });
                }
                Note::Ended { attempt, outcome } => {
                    if let Some(index) = open.remove(&key(attempt)) {
                        self.attempts[index].end = line.at;
                        self.attempts[index].outcome = Some(*outcome);
                    }
                }
                Note::Lost => life.lost.push(line.at),
                Note::GivenBack { dropped, .. } => life.given_back.push((line.at, *dropped)),
                Note::Unreadable => life.unreadable.push(line.at),
                Note::Parked {
                    topic,
                    partition,
                    offset,
                } => {
                    self.parked.insert(self.place(topic, *partition, *offset));
                }
                Note::Planted { place } => life.planted = Some((line.at, *place)),
                Note::Down { error } => life.down = Some(error.clone()),
                Note::Up { .. } | Note::Stopping | Note::Assigned { .. } | Note::Unanswered => {}
            }
        }
        if let Some((at, _)) = life.planted
            && life
                .end
                .is_none_or(|(end, how)| how == End::Orderly && end >= at)
        {
            life.end = Some((at, End::Panicked));
        }
        self.lives.push(life);
    }

    fn place(&self, topic: &str, partition: i32, offset: i64) -> Place {
        let origin = topic == self.evidence.common.topics.origin;
        let source = if origin {
            Source::Origin
        } else {
            Source::Retry
        };
        Place {
            source,
            partition,
            offset,
        }
    }

    /// Whether a broker was away in that time.
    pub fn outage(&self, from: Nanos, to: Nanos) -> bool {
        self.outages.iter().any(|outage| outage.meets(from, to))
    }

    /// How long after it was settled the commit of a record of `life` may be on its way.
    pub fn on_its_way(&self, life: &Life) -> Nanos {
        life.commit_interval + nanos(Duration::from_millis(self.evidence.commit_grace_ms))
    }

    /// When what was settled at a time has been committed, with all brokers there.
    ///
    /// While a classic group rebalances no commit gets through: it waits on the connection behind
    /// the request to join, which is answered when all have joined. Only a rebalance that was there
    /// while the commit was due keeps it.
    pub fn committed_by(&self, settled: Nanos, life: &Life) -> Nanos {
        let on_its_way = self.on_its_way(life);
        let due = settled + on_its_way;
        let spans = self
            .evidence
            .rebalances
            .iter()
            .map(|&(from, to)| Span { from, to });
        let met = spans.filter(|rebalance| rebalance.meets(settled, due));
        met.map(|rebalance| rebalance.to + on_its_way)
            .fold(due, Nanos::max)
    }

    /// The time since the first attempt, for messages.
    pub fn clock(&self, at: Nanos) -> String {
        format!(
            "{:.3}s",
            seconds(at - self.attempts.first().map_or(0, |first| first.start))
        )
    }

    /// An attempt in words.
    pub fn show(&self, attempt: &Attempt) -> String {
        let Place {
            source,
            partition,
            offset,
        } = attempt.place;
        format!(
            "{source:?}[{partition}]@{offset} (record {}, key {}) on {} epoch {} attempt {}, {} to {}, {:?}",
            attempt.id,
            attempt.key.as_deref().unwrap_or("none"),
            self.lives[attempt.life].name,
            attempt.epoch,
            attempt.number,
            self.clock(attempt.start),
            self.clock(attempt.end),
            attempt.outcome,
        )
    }
}
