//! Which letter is copied next.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use thiserror::Error;

use super::canary::{Canary, CanaryState, Verdict};
use super::index::{Entry, Index, NONE, Turns};
use super::progress::{MAX_AHEAD, MAX_WINDOW, PartitionProgress, Progress, map};
use crate::offset::{Offset, Position};
use crate::time::Moment;

/// How a redrive goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanSettings {
    /// Copies in flight at most, from 1 to [`MAX_WINDOW`]: what a crash may repeat. Default: 100.
    pub window: usize,
    /// Copies a second at most; `None` and 0 are as fast as it goes.
    pub rate: Option<u32>,
    /// Copies at most, over all runs of the task: its first turns.
    pub max: Option<u64>,
    /// Some first, and the others if those succeed.
    pub canary: Option<Canary>,
}

impl Default for PlanSettings {
    fn default() -> Self {
        Self {
            window: 100,
            rate: None,
            max: None,
            canary: None,
        }
    }
}

/// A turn of a plan, to answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Turn(u32);

/// A letter to copy now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    /// To answer with.
    pub turn: Turn,
    /// The partition of the dead-letter topic where the letter lies.
    pub partition: i32,
    /// The offset there.
    pub offset: Offset,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Copy this letter, and report it by [`Plan::acknowledged`].
    Copy(Copy),
    /// Call again at this moment: the rate allows no copy before it.
    Wait(Moment),
    /// Call again after an acknowledgement or a commit.
    InFlight,
    /// The canary is copied; call again after its outcomes ([`Plan::outcome`]).
    Canary,
    /// It ended before all was copied.
    Stopped(Stopped),
    /// All is copied and committed.
    Done,
}

/// Why it ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stopped {
    /// Too few of the canary succeeded.
    CanaryFailed,
    /// By [`Plan::cancel`].
    Cancelled,
}

/// A plan that cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The letters are not those that the task began with.
    #[error(
        "the dead letters that match are no longer those that this redrive began with: retention or compaction has \
         removed some; begin a new one, with a filter that leaves out what this one has copied"
    )]
    Changed,
}

#[derive(Clone, core::marker::Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Started,
    Acknowledged,
    /// Acknowledged, and in a commit that the broker has.
    Committed,
}

/// The state of a redrive; see the [module](super) for its rules.
///
/// # Examples
/// ```
/// use keylane_core::redrive::{Index, IndexLimits, Letter, Next, Plan, PlanSettings, Progress};
/// use keylane_core::{Moment, Offset};
///
/// let mut index = Index::new(IndexLimits::default());
/// index.add(&Letter { partition: 0, offset: Offset::new(17), key: Some(7), origin: None })?;
/// let mut plan = Plan::new(index, PlanSettings::default(), None, &Progress::default())?;
///
/// let Next::Copy(copy) = plan.next(Moment::ORIGIN) else { panic!("a letter is left") };
/// assert_eq!(copy.offset, Offset::new(17));
/// plan.acknowledged(copy.turn);
/// assert_eq!(plan.next(Moment::ORIGIN), Next::InFlight, "it may be repeated until it is committed");
/// let progress = plan.progress();
/// // Committed with the broker.
/// plan.committed(&progress);
/// assert_eq!(plan.next(Moment::ORIGIN), Next::Done);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Plan {
    entries: Vec<Entry>,
    turns: Turns,
    states: Vec<State>,
    partitions: Vec<Lane>,
    settings: PlanSettings,
    digest: u64,
    /// Turns from here on are not for this task: `max`.
    end: u32,
    /// Turns that are started and not committed.
    in_flight: BTreeSet<u32>,
    /// How many turns are acknowledged.
    done: u32,
    not_before: Moment,
    canary: CanaryState,
    is_cancelled: bool,
}

/// The turns of one partition.
#[derive(Debug)]
struct Lane {
    turns: Range<u32>,
    /// The first that is not acknowledged.
    first: u32,
    /// None before it waits.
    next: u32,
}

impl Plan {
    /// The plan for these letters, from where an earlier run of the task left off.
    ///
    /// `digest` is that of the task's first plan ([`digest`](Self::digest)), and `None` for the
    /// first.
    ///
    /// # Errors
    /// [`PlanError::Changed`] where the letters are others than at first: turns cannot be compared.
    pub fn new(
        mut index: Index,
        settings: PlanSettings,
        digest: Option<u64>,
        progress: &Progress,
    ) -> Result<Self, PlanError> {
        let turns = index.turns();
        let own = index.digest();
        if digest.is_some_and(|digest| digest != own) {
            return Err(PlanError::Changed);
        }
        let entries = index.entries;
        let count = u32::try_from(entries.len()).unwrap_or(NONE);
        let mut plan = Self {
            states: vec![State::Waiting; entries.len()],
            partitions: lanes(&entries),
            canary: CanaryState::new(settings.canary, count),
            settings: PlanSettings {
                window: settings.window.clamp(1, MAX_WINDOW),
                ..settings
            },
            digest: own,
            end: (settings.max).map_or(count, |max| u32::try_from(max).unwrap_or(NONE).min(count)),
            in_flight: BTreeSet::new(),
            done: 0,
            not_before: Moment::ORIGIN,
            is_cancelled: false,
            entries,
            turns,
        };
        plan.resume(progress);
        Ok(plan)
    }

    /// A turn counts as done only with all before it of its key: a copy that is made again is
    /// followed by the later ones, which would otherwise be overtaken by it.
    fn resume(&mut self, progress: &Progress) {
        for turn in 0..self.end {
            let Entry {
                partition, offset, ..
            } = self.entries[turn as usize];
            let is_done = progress.has(partition, Offset::new(offset));
            let before = self.turns.before[turn as usize];
            if is_done && (before == NONE || self.is(before, State::Committed)) {
                self.states[turn as usize] = State::Committed;
                self.done += 1;
                self.canary.has_passed |= turn >= self.canary.turns;
            }
        }
        self.advance();
    }

    /// Changes where any letter does. Store it with the task.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// How many letters the task copies in all, and how many of them are acknowledged.
    pub fn counts(&self) -> (u64, u64) {
        (self.end.into(), self.done.into())
    }

    /// What to do next.
    pub fn next(&mut self, now: Moment) -> Next {
        let open = match self.canary.verdict() {
            Verdict::Passed => self.end,
            Verdict::Open => self.canary.turns.min(self.end),
            Verdict::Failed => 0,
        };
        let open = if self.is_cancelled { 0 } else { open };
        if self.in_flight.len() < self.settings.window
            && let Some((lane, turn)) = self.startable(open)
        {
            if now < self.not_before {
                return Next::Wait(self.not_before);
            }
            return Next::Copy(self.start(lane, turn, now));
        }
        if !self.in_flight.is_empty() || self.waits(open) {
            return Next::InFlight;
        }
        match self.canary.verdict() {
            _ if !self.waits(self.end) => Next::Done,
            _ if self.is_cancelled => Next::Stopped(Stopped::Cancelled),
            Verdict::Failed => Next::Stopped(Stopped::CanaryFailed),
            Verdict::Open | Verdict::Passed => Next::Canary,
        }
    }

    /// The first turn that may begin, with its partition's number. Of several partitions the one
    /// that is least far.
    fn startable(&mut self, open: u32) -> Option<(usize, u32)> {
        let mut found: Option<(usize, u32, u32)> = None;
        for at in 0..self.partitions.len() {
            self.skip_started(at);
            let lane = &self.partitions[at];
            let ahead = u32::try_from(MAX_AHEAD).unwrap_or(NONE);
            let until = lane
                .first
                .saturating_add(ahead)
                .min(lane.turns.end)
                .min(open);
            let turn = (lane.next..until).find(|turn| self.may_start(*turn));
            let Some(turn) = turn else { continue };
            let begun = turn - lane.turns.start;
            if found.is_none_or(|(_, _, least)| begun < least) {
                found = Some((at, turn, begun));
            }
        }
        found.map(|(at, turn, _)| (at, turn))
    }

    fn may_start(&self, turn: u32) -> bool {
        let before = self.turns.before[turn as usize];
        let is_free = before == NONE || self.states[before as usize].is_done();
        is_free && self.is(turn, State::Waiting)
    }

    fn start(&mut self, lane: usize, turn: u32, now: Moment) -> Copy {
        self.states[turn as usize] = State::Started;
        self.skip_started(lane);
        self.in_flight.insert(turn);
        if let Some(rate) = self.settings.rate.filter(|rate| *rate > 0) {
            self.not_before = self.not_before.max(now) + Duration::from_secs(1) / rate;
        }
        let letter = &self.entries[self.turns.letters[turn as usize] as usize];
        Copy {
            turn: Turn(turn),
            partition: letter.partition,
            offset: Offset::new(letter.offset),
        }
    }

    /// The copy is on the target topic: the broker has acknowledged it. Or its letter is gone, and
    /// the caller reports that.
    pub fn acknowledged(&mut self, turn: Turn) {
        if self.is(turn.0, State::Started) {
            self.states[turn.0 as usize] = State::Acknowledged;
            self.done += 1;
            self.advance();
        }
    }

    /// The copy was not written, and is to be made again.
    pub fn failed(&mut self, turn: Turn) {
        if self.is(turn.0, State::Started) {
            self.states[turn.0 as usize] = State::Waiting;
            self.in_flight.remove(&turn.0);
            let lane = (self.partitions.iter_mut()).find(|lane| lane.turns.contains(&turn.0));
            if let Some(lane) = lane {
                lane.next = lane.next.min(turn.0);
            }
        }
    }

    /// What is done now, to be committed.
    pub fn progress(&self) -> Progress {
        let partitions = self.partitions.iter().map(|lane| {
            let place = |turn: u32| self.entries[turn as usize].offset;
            let partition = self.entries[lane.turns.start as usize].partition;
            let position = match lane.first < lane.turns.end {
                true => Position::before(Offset::new(place(lane.first))),
                false => Offset::new(place(lane.turns.end - 1)).next(),
            };
            let ahead = u32::try_from(MAX_AHEAD).unwrap_or(NONE);
            let until = lane.first.saturating_add(ahead).min(lane.turns.end);
            let mut runs: Vec<(i64, i64)> = Vec::new();
            let mut is_open = false;
            for turn in lane.first..until {
                let is_done = self.states[turn as usize].is_done();
                match runs.last_mut() {
                    Some((_, last)) if is_done && is_open => *last = place(turn),
                    _ if is_done => runs.push((place(turn), place(turn))),
                    _ => {}
                }
                is_open = is_done;
            }
            PartitionProgress {
                partition,
                position,
                done: map(runs),
            }
        });
        Progress {
            partitions: partitions.collect(),
        }
    }

    /// The broker has this progress. What it names is no longer in flight.
    pub fn committed(&mut self, progress: &Progress) {
        let (entries, states) = (&self.entries, &mut self.states);
        self.in_flight.retain(|turn| {
            let Entry {
                partition, offset, ..
            } = entries[*turn as usize];
            let state = &mut states[*turn as usize];
            let has = progress.has(partition, Offset::new(offset));
            if has && *state == State::Acknowledged {
                *state = State::Committed;
            }
            *state != State::Committed
        });
    }

    /// What became of a copy of the canary at its target.
    pub fn outcome(&mut self, turn: Turn, succeeded: bool) {
        if let Some(outcome) = self.canary.outcomes.get_mut(turn.0 as usize) {
            *outcome = Some(succeeded);
        }
    }

    /// The letters of the canary that have no outcome, for a run that goes on with it.
    pub fn awaited(&self) -> impl Iterator<Item = Copy> + '_ {
        let outcomes = (0..).zip(&self.canary.outcomes);
        let without = outcomes.filter(|(_, outcome)| outcome.is_none());
        without.map(|(turn, _)| {
            let letter = &self.entries[self.turns.letters[turn as usize] as usize];
            Copy {
                turn: Turn(turn),
                partition: letter.partition,
                offset: Offset::new(letter.offset),
            }
        })
    }

    /// Begins no more copies. What is in flight is still to be reported.
    pub fn cancel(&mut self) {
        self.is_cancelled = true;
    }

    fn is(&self, turn: u32, state: State) -> bool {
        self.states.get(turn as usize) == Some(&state)
    }

    /// Whether a turn before this one waits.
    fn waits(&self, until: u32) -> bool {
        self.partitions.iter().any(|lane| {
            (lane.next..lane.turns.end.min(until)).any(|turn| self.is(turn, State::Waiting))
        })
    }

    fn skip_started(&mut self, at: usize) {
        let lane = &mut self.partitions[at];
        while lane.next < lane.turns.end && self.states[lane.next as usize] != State::Waiting {
            lane.next += 1;
        }
    }

    fn advance(&mut self) {
        for lane in &mut self.partitions {
            let is_done = |turn: u32| self.states[turn as usize].is_done();
            while lane.first < lane.turns.end && is_done(lane.first) {
                lane.first += 1;
            }
        }
    }
}

impl State {
    fn is_done(self) -> bool {
        matches!(self, Self::Acknowledged | Self::Committed)
    }
}

fn lanes(entries: &[Entry]) -> Vec<Lane> {
    let mut lanes = Vec::new();
    let mut start = 0;
    for of_partition in entries.chunk_by(|a, b| a.partition == b.partition) {
        let end = start + u32::try_from(of_partition.len()).unwrap_or(NONE);
        lanes.push(Lane {
            turns: start..end,
            first: start,
            next: start,
        });
        start = end;
    }
    lanes
}
