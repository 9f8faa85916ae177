//! All journals and the evidence of a run as one history, in one time.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs, io,
    path::Path,
    time::Duration,
};

use super::given_up;
use crate::{
    clock::{Nanos, nanos, seconds},
    downstream::Outage,
    evidence::{self, Evidence, PROGRAM, Source},
    fate::{Fate, Value},
    journal::{self, Deed, Line, Note, Outcome, ReadError, Sent},
    planted::Planted,
};

/// The brokers' time stamps are whole milliseconds of another clock.
const STAMP_ERROR: Nanos = 2_000_000;
/// How long a broker's outage is felt after it is back.
const AFTERMATH: Duration = Duration::from_secs(10);

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

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself, after a shutdown or with an error.
    Orderly,
    /// It ended by `kill -9`.
    Killed,
    /// A record ended it.
    Aborted,
    /// By itself, after a panic in one of keylane's threads. What it had settled may not be
    /// committed.
    Panicked,
}

/// One process of a member.
#[derive(Debug, Clone)]
pub struct Life {
    /// Its name.
    pub name: String,
    /// How often it committed.
    pub commit_interval: Nanos,
    /// When and how it ended: for one that was killed, when the signal was sent.
    pub end: Option<(Nanos, End)>,
    /// When it was gone for sure.
    pub gone: Nanos,
    /// When it was stopped by a signal.
    pub stops: Vec<Span>,
    /// When it learned that its assignment was lost.
    pub lost: Vec<Nanos>,
    /// When it gave partitions back, and whether the deadline of the drain had passed.
    pub given_back: Vec<(Nanos, bool)>,
    /// When it gave partitions up, and what they had settled last may not have been committed.
    pub given_up: Vec<Span>,
    /// When it could not read the commits of its new partitions.
    pub unreadable: Vec<Nanos>,
    /// When a panic that was planted in one of keylane's threads went off, and in which.
    pub planted: Option<(Nanos, Planted)>,
    /// What its subscription said when it had ended: an error, or nothing.
    pub down: Option<Option<String>>,
    /// Whether it had to be killed because it did not end after that panic.
    pub hung: bool,
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

fn life(name: &str, notes: &[Line<Note>], deeds: &[Line<Deed>]) -> Life {
    let last_note = notes.last().map_or(0, |line| line.at);
    let mut life = Life {
        name: name.to_owned(),
        commit_interval: nanos(Duration::from_secs(1)),
        end: None,
        gone: Nanos::MAX,
        stops: Vec::new(),
        lost: Vec::new(),
        given_back: Vec::new(),
        given_up: given_up::spans(notes),
        unreadable: Vec::new(),
        planted: None,
        down: None,
        hung: false,
    };
    if let Some(Note::Up { commit_interval_ms }) = notes.first().map(|line| &line.what) {
        life.commit_interval = nanos(Duration::from_millis(*commit_interval_ms));
    }
    for line in deeds {
        match &line.what {
            Deed::Signalled { member, signal } if member == name => match signal {
                Sent::Kill => life.end = Some((line.at, End::Killed)),
                Sent::Stop => life.stops.push(Span {
                    from: line.at,
                    to: Nanos::MAX,
                }),
                Sent::Continue => {
                    if let Some(stop) = life.stops.last_mut() {
                        stop.to = line.at;
                    }
                }
                Sent::Terminate => {}
            },
            Deed::Hung { member } if member == name => life.hung = true,
            Deed::Exited {
                member, orderly, ..
            } if member == name => {
                life.gone = line.at;
                let end = if *orderly || life.hung {
                    End::Orderly
                } else {
                    End::Aborted
                };
                life.end = life.end.or(Some((last_note, end)));
            }
            _ => {}
        }
    }
    life
}

fn outages(deeds: &[Line<Deed>]) -> Vec<Span> {
    let spans = deeds
        .iter()
        .enumerate()
        .filter_map(|(index, line)| match &line.what {
            Deed::Out { what } if what.starts_with("broker") => {
                Some(until_back(deeds, index, what))
            }
            _ => None,
        });
    spans.collect()
}

fn away(deeds: &[Line<Deed>]) -> Vec<(Span, Outage)> {
    let span = |(index, line): (usize, &Line<Deed>)| {
        let Deed::Away { outage } = &line.what else {
            return None;
        };
        let healed = deeds[index..].iter().find(|line| line.what == Deed::Healed);
        Some((
            Span {
                from: line.at,
                to: healed.map_or(Nanos::MAX, |line| line.at),
            },
            *outage,
        ))
    };
    deeds.iter().enumerate().filter_map(span).collect()
}

fn until_back(deeds: &[Line<Deed>], out: usize, what: &str) -> Span {
    let back = deeds[out..]
        .iter()
        .find(|line| matches!(&line.what, Deed::Back { what: back } if back == what));
    Span {
        from: deeds[out].at,
        to: back.map_or(Nanos::MAX, |line| line.at + nanos(AFTERMATH)),
    }
}

fn troubles(deeds: &[Line<Deed>]) -> Vec<Trouble> {
    let felt = |at: Nanos| Span {
        from: at,
        to: at + nanos(AFTERMATH),
    };
    let trouble = |(index, line): (usize, &Line<Deed>)| {
        let (span, what) = match &line.what {
            Deed::Signalled {
                signal: Sent::Kill, ..
            } => (felt(line.at), "kill"),
            Deed::Signalled {
                signal: Sent::Terminate,
                ..
            } => (felt(line.at), "leave"),
            Deed::Signalled {
                signal: Sent::Stop, ..
            }
            | Deed::Signalled {
                signal: Sent::Continue,
                ..
            } => (felt(line.at), "pause"),
            Deed::Exited { orderly: false, .. } => (felt(line.at), "death"),
            Deed::Spawned { .. } => (felt(line.at), "join"),
            Deed::Out { what } => match what.as_str() {
                "dead letters" => (until_back(deeds, index, what), "dead letters"),
                "retries" => (until_back(deeds, index, what), "retries"),
                _ => (until_back(deeds, index, what), "broker"),
            },
            Deed::LeadersMoved => (felt(line.at), "leaders"),
            Deed::Away { outage } => {
                let to = line.at + nanos(Duration::from_millis(outage.lasts_ms) + AFTERMATH);
                (Span { from: line.at, to }, "downstream")
            }
            Deed::Hung { .. } => (felt(line.at), "death"),
            Deed::Exited { .. } | Deed::Back { .. } | Deed::Healed | Deed::LoadStopped => {
                return None;
            }
        };
        Some(Trouble { span, what })
    };
    deeds.iter().enumerate().filter_map(trouble).collect()
}

fn settled(history: &History) -> HashMap<Place, Nanos> {
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
