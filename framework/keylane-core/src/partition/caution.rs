//! Care after a crash: marks before starts, trials, and the verdict on a record that kills its
//! process.
//!
//! A start that finds the mark of a process that did not give the partition up is *unclean*; see
//! [`Evidence`]. From then on the partition is *careful*, until there is progress:
//!
//! | the partition | what runs |
//! |---|---|
//! | has not crashed | everything, once the mark of this epoch is on the broker |
//! | is careful | everything but suspects, up to [`GROUP`] records named together: a net |
//! | is careful, and it is the turn of its suspects | one suspect, named alone, in a trial |
//!
//! A suspect is a record that was named at a crash. The broker's evidence always covers what runs:
//! before a record starts that the last mark does not cover, a new mark is wanted
//! ([`Partition::wanted_mark`]) and nothing starts until it is confirmed. In a trial nothing else
//! runs in the process, whichever partition or subscription it belongs to. So a crash that counts
//! is the crash of the one record that ran. A trial ends with its record, after
//! [`SUSPECT_PATIENCE`] at most, and not before the name is taken back: for [`MARK_PATIENCE`] at
//! most, as its start waits for its mark. So while a coordinator is away, others wait for twice that
//! at most. A crash in which the name is still on the broker may count once for its record. Before
//! its next trial a partition leaves others as much time as its last one took, and goes on itself
//! with what is not suspected: see [`Partition::wants_trial`].
//!
//! Records that are named together are a net: whatever ran at the crash is in it, so the next start
//! has a few suspects to try, for two marks each. To be in the net counts for nothing else, so
//! neither a neighbour's crash nor kills from outside condemn a record for it. A mark is a commit
//! that is waited for: the price of care. One that names many is wanted again only when half of
//! them have ended. After kills from outside a partition has
//! [`MAX_SUSPECTS`](crate::MAX_SUSPECTS) records to try at most.
//!
//! Progress ends it: see `watch.rs`. A record that was named alone at
//! [`POISON_CRASHES`](crate::POISON_CRASHES) crashes does not run again; at
//! [`POISON_CRASHES_OF_SURVIVED`](crate::POISON_CRASHES_OF_SURVIVED) where it has also run alone
//! without killing.

mod naming;
mod trial;
mod verdict;

use std::time::Duration;

pub use verdict::{PoisonFate, Poisoned};

use super::Partition;
use super::pending::State;
use super::watch::Watch;
use crate::evidence::{Evidence, GROUP, Instance, Named};
use crate::offset::Offset;
use crate::time::Moment;
use trial::Trial;

/// How long a partition that has nothing to be careful about waits for its first mark, and others
/// for each mark of a trial. The mark is insurance: while the coordinator is away for longer, work
/// goes on without it.
pub const MARK_PATIENCE: Duration = Duration::from_secs(10);
/// How long a trial lasts at most. A record that has not killed by then is let go and runs on, so
/// that what waits for the end of the trial waits little longer than this.
pub const SUSPECT_PATIENCE: Duration = Duration::from_secs(60);

/// A commit that has to be on the broker before anything more starts. Numbers ascend in an epoch,
/// from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(u64);

impl Mark {
    /// The mark of this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

pub(super) struct Cautious {
    here: Instance,
    evidence: Evidence,
    /// The records that the commit is to name; `None` before anything is to start in this epoch.
    asked: Option<Named>,
    number: u64,
    asked_at: Moment,
    confirmed: bool,
    trial: Option<Trial>,
    /// Others go first until then, and with one net. `None` before the first trial of the epoch.
    next_trial: Option<Moment>,
    /// Starts that a net still has before the next trial.
    net_left: usize,
    /// The named records that run.
    running: Vec<Running>,
    pub(super) watch: Watch,
    verdicts: Vec<Poisoned>,
    ended: bool,
    /// Raised whenever the evidence changes.
    version: u64,
}

#[derive(Clone, Copy)]
struct Running {
    slot: u32,
    offset: Offset,
    since: Moment,
}

impl Cautious {
    pub(super) fn new(here: Instance, evidence: Evidence, watched_records: usize) -> Self {
        let watch = if evidence.unclean_starts > 0 {
            Watch::new(watched_records)
        } else {
            Watch::off()
        };
        Self {
            here,
            evidence,
            asked: None,
            number: 0,
            asked_at: Moment::ORIGIN,
            confirmed: false,
            trial: None,
            next_trial: None,
            net_left: 0,
            running: Vec::new(),
            watch,
            verdicts: Vec::new(),
            ended: false,
            version: 0,
        }
    }

    /// There was a crash, and no progress since.
    fn is_careful(&self) -> bool {
        self.evidence.unclean_starts > 0
    }

    /// The evidence of a commit made now.
    pub(super) fn evidence(&self) -> Evidence {
        if self.ended {
            return self.evidence.clone();
        }
        let running = self.asked.as_ref().map(|_| self.here);
        Evidence {
            running,
            named: self.asked.clone().unwrap_or_default(),
            ..self.evidence.clone()
        }
    }

    /// Whether a commit on the broker covers what is about to run; else a mark is requested from
    /// now on.
    fn covers(&mut self, named: Named, now: Moment) -> bool {
        if self.asked.as_ref() != Some(&named) {
            self.asked = Some(named);
            self.number += 1;
            self.asked_at = now;
            self.confirmed = false;
            self.version += 1;
        }
        self.confirmed || (!self.is_careful() && now.since(self.asked_at) >= MARK_PATIENCE)
    }

    /// Whether the latest mark is not on the broker yet.
    fn is_waiting(&self) -> bool {
        self.asked.is_some() && !self.confirmed
    }

    pub(super) fn settled(&mut self, offset: Offset) {
        if !self.evidence.suspects.is_empty() {
            self.evidence.settled(offset);
            self.version += 1;
        }
    }

    /// The offsets from here on stand for other records now.
    pub(super) fn log_was_cut(&mut self, from: Offset) {
        self.evidence
            .suspects
            .retain(|suspect| suspect.offset < from);
    }

    /// The record that runs alone, by its mark.
    fn alone(&self) -> Option<&Running> {
        let Some(Named::Alone(named)) = self.asked else {
            return None;
        };
        self.running.iter().find(|running| running.offset == named)
    }

    /// An attempt that was named has ended, or is let go, and the process lives.
    pub(super) fn attempt_ended(&mut self, slot: u32) {
        let alone = self
            .alone()
            .filter(|alone| alone.slot == slot)
            .map(|alone| alone.offset);
        if alone.is_some_and(|offset| self.evidence.survived(offset)) {
            self.version += 1;
        }
        self.running.retain(|running| running.slot != slot);
    }

    fn progressed(&mut self) {
        self.watch = Watch::off();
        self.evidence.unclean_starts = 0;
        self.evidence.acquit();
        self.version += 1;
    }
}

impl<R> Partition<R> {
    /// Whether there was a crash, and no progress since.
    pub fn is_careful(&self) -> bool {
        self.cautious.is_careful()
    }

    /// Whether it is careful and has suspects, which run alone.
    pub fn has_suspects(&self) -> bool {
        self.is_careful() && !self.cautious.evidence.suspects.is_empty()
    }

    /// The mark that has to be committed, with the watermark and metadata as they are from now on,
    /// before anything more starts. Answered by [`mark_confirmed`](Self::mark_confirmed).
    pub fn wanted_mark(&self) -> Option<Mark> {
        let cautious = &self.cautious;
        (cautious.is_waiting() && !cautious.ended).then_some(Mark(cautious.number))
    }

    /// Whether something could start if only the broker knew of it; if so, a mark is wanted from
    /// now on.
    pub fn next_start_needs_mark(&mut self) -> bool {
        if self.holds_starts() || self.running() >= self.settings.concurrency.max(1) {
            return false;
        }
        let next = self.next_ready();
        next.is_some_and(|(_, slot)| !self.is_covered(slot)) && self.wanted_mark().is_some()
    }

    /// The broker has this mark. One that is not the latest changes nothing.
    pub fn mark_confirmed(&mut self, mark: Mark) {
        if mark.0 == self.cautious.number && self.cautious.asked.is_some() {
            self.cautious.confirmed = true;
        }
    }

    /// Whether a commit made now has the mark that records run.
    pub fn is_marked(&self) -> bool {
        self.cautious.asked.is_some() && !self.cautious.ended
    }

    /// The end of the log when this epoch began, or later: what lies behind it cannot have caused
    /// an earlier crash.
    pub fn log_ends_at(&mut self, end: crate::Position) {
        self.cautious.watch.log_ends_at(end);
        self.look_for_progress();
    }

    /// The number of crashes at which a record was named.
    pub fn crashes(&self, offset: Offset) -> u32 {
        self.cautious.evidence.crashes(offset)
    }

    /// The epoch ends in order, whether or not all that runs has finished: nothing more starts, and
    /// what is committed from now on carries no mark.
    pub fn end(&mut self) {
        self.draining = true;
        self.cautious.ended = true;
        if self.cautious.asked.is_some() {
            self.cautious.version += 1;
        }
    }

    /// Changes whenever the evidence of a commit changes.
    pub fn evidence_version(&self) -> u64 {
        self.cautious.version
    }

    /// When caution has something to do.
    pub(super) fn caution_deadline(&self) -> Option<Moment> {
        let cautious = &self.cautious;
        let has_end = !cautious.is_careful() || cautious.trial.is_some();
        let patience = (cautious.is_waiting() && has_end)
            .then(|| cautious.asked_at + MARK_PATIENCE)
            .filter(|&moment| moment > self.now);
        let let_go = self
            .awaited()
            .iter()
            .map(|running| running.since + SUSPECT_PATIENCE);
        let next_trial = cautious
            .next_trial
            .filter(|&moment| moment > self.now && self.could_try());
        patience.into_iter().chain(let_go).chain(next_trial).min()
    }

    /// A trial neither lasts, nor waits for what a net has left running, for longer than that.
    pub(super) fn caution_tick(&mut self) {
        let is_over = |running: &&Running| self.now.since(running.since) >= SUSPECT_PATIENCE;
        let let_go: Vec<_> = self.awaited().iter().filter(is_over).copied().collect();
        for Running { slot, .. } in let_go {
            self.cautious.attempt_ended(slot);
            self.unwatch(slot);
        }
    }

    /// What a trial waits for: in it its suspect, and before it what runs of this partition.
    fn awaited(&self) -> &[Running] {
        if self.cautious.trial.is_some() || self.is_trial_due() {
            &self.cautious.running
        } else {
            &[]
        }
    }

    /// Parks a record; what is behind it in its lane will not run in this epoch either.
    pub(super) fn hold_for_good(&mut self, slot: u32) {
        self.pending.set_state(slot, State::Parked);
        self.unwatch_lane(slot);
    }

    /// It is no sign of a killer that this head has not run, nor that those behind it have not.
    pub(super) fn unwatch_lane(&mut self, slot: u32) {
        if !self.cautious.watch.is_on() {
            return;
        }
        let mut stuck = Some(slot);
        while let Some(slot) = stuck {
            self.pending.get_mut(slot).stuck = true;
            self.unwatch(slot);
            stuck = self.lanes.behind(slot);
        }
    }

    /// What joins this lane may be watched again.
    pub(super) fn watch_lane(&mut self, head: u32) {
        if !self.cautious.watch.is_on() {
            return;
        }
        let mut next = Some(head);
        while let Some(slot) = next {
            self.pending.get_mut(slot).stuck = false;
            next = self.lanes.behind(slot);
        }
    }

    /// One record less that could be what killed.
    pub(super) fn unwatch(&mut self, slot: u32) {
        let pending = self.pending.get_mut(slot);
        if std::mem::take(&mut pending.watched) {
            self.cautious.watch.clear_one();
            self.look_for_progress();
        }
    }

    pub(super) fn look_for_progress(&mut self) {
        if self.cautious.watch.is_over() {
            self.cautious.progressed();
        }
    }
}
