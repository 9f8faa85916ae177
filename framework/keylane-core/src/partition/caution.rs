//! Care after a crash: marks before starts, turns, and the verdict on a record that kills its process.
//!
//! A start that finds the mark of a process that ended without a word is *unclean*; see [`Evidence`]. How careful a
//! partition is depends on how many of them there were in a row:
//!
//! | unclean starts | caution | what runs |
//! |---|---|---|
//! | 0 | none | everything, once the mark of this epoch is on the broker |
//! | 1 | wary | everything, in a shared turn, up to [`GROUP`] records named together; one that is alone in the partition is named alone, in a turn of its own |
//! | 2 and more | isolation | the same, but what was named at a crash runs by itself, in a turn of its own; at its second time in a quiet one |
//!
//! What the broker knows always covers what runs: before a record starts that the last mark does not cover, a new mark is
//! wanted ([`Partition::wanted_mark`]) and nothing starts until it is confirmed. Turns keep the suspects of other
//! partitions of the process from running at the same time; without that a neighbour could be named at a crash that is
//! not its own. Partitions that have not crashed yet run beside all that, and one of them may hold a killer of its own: so to
//! be named alone at one crash is a suspicion, and such a record is tried in a quiet turn, with nothing else running in the
//! process. A verdict always rests on such a trial. A turn of its own lasts until its record ends, [`SUSPECT_PATIENCE`] at
//! most, and the others of the process that are suspicious wait for it, each in its turn.
//!
//! Records that are named together are a net: whatever ran at the crash is in it, so the next start knows which few it has to
//! try alone, one mark each, and everything else goes on. Being in the net counts for nothing else, so that neither a
//! neighbour's crash nor kills from outside ever condemn a record for it. Marks are what care costs, commits that are waited
//! for; one that names many is wanted again only when all of them have started, while they run. So a process that was killed
//! from outside, however often, is back at work after [`MAX_SUSPECTS`] records a partition at most.
//!
//! Progress ends it: see `watch.rs`. A record that was named alone at [`POISON_CRASHES`] crashes does not run again.

use std::time::Duration;

use super::pending::State;
use super::watch::Watch;
use super::{ParkReason, Partition, Publish};
use crate::evidence::{Evidence, GROUP, ISOLATION_STARTS, Instance, MAX_SUSPECTS, Named, POISON_CRASHES};
use crate::failure::Reason;
use crate::offset::Offset;
use crate::retry_policy::Exhausted;
use crate::time::Moment;

/// How long a partition that has nothing to be careful about waits for its first mark. The mark is insurance: while the
/// coordinator is away for longer, work goes on without it.
pub const MARK_PATIENCE: Duration = Duration::from_secs(10);
/// How long a record that is named alone has its turn. One that has not killed by then is let go and runs on, so that the
/// other partitions that wait for a turn wait little longer than this.
pub const SUSPECT_PATIENCE: Duration = Duration::from_secs(60);
/// How long one suspect may follow another while other partitions wait for a turn: long enough that the mark which ends a turn
/// is one of several.
pub const TURN_PATIENCE: Duration = Duration::from_secs(1);

/// How careful a partition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Caution {
    /// Nothing has crashed.
    None,
    /// One unclean start.
    Wary,
    /// More of them, without progress between.
    Isolated,
}

/// What a partition needs before it may start anything, beside its mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Beside other wary partitions of the process, but no suspect.
    Shared,
    /// With no other suspicious partition of the process.
    Alone,
    /// With no other partition of the process at all: the trial of a record that was named at a crash before.
    Quiet,
}

/// A commit that has to be on the broker before anything more starts. Numbers ascend in an epoch, from 1.
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

/// The verdict on a record that was named at too many crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poisoned {
    /// Its offset.
    pub offset: Offset,
    /// At how many crashes it was named.
    pub crashes: u32,
    /// What becomes of it.
    pub fate: PoisonFate,
}

/// What becomes of a poison record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoisonFate {
    /// It is written to the dead-letter topic, and settled by that.
    DeadLetter,
    /// It is parked: the policy says so, or there is no dead-letter topic.
    Parked(ParkReason),
    /// The subscription is to end, as the policy says.
    Stop,
}

pub(super) struct Cautious {
    here: Instance,
    evidence: Evidence,
    /// The records that the broker is to know of; `None` before anything wants to start in this epoch.
    asked: Option<Named>,
    number: u64,
    asked_at: Moment,
    confirmed: bool,
    turn: Option<Held>,
    /// The named records that run.
    running: Vec<Running>,
    pub(super) watch: Watch,
    verdicts: Vec<Poisoned>,
    ended: bool,
    /// Raised whenever the evidence changes.
    version: u64,
}

#[derive(Clone, Copy)]
struct Held {
    kind: Turn,
    since: Moment,
    /// Nothing more starts in it, but for what is named already.
    ending: bool,
    /// In a turn of its own: the record that is named and has not started yet.
    next: Option<Offset>,
}

#[derive(Clone, Copy)]
struct Running {
    slot: u32,
    offset: Offset,
    since: Moment,
}

impl Cautious {
    pub(super) fn new(here: Instance, evidence: Evidence, watched_records: usize) -> Self {
        let watch = if evidence.unclean_starts > 0 { Watch::new(watched_records) } else { Watch::off() };
        Self {
            here,
            evidence,
            asked: None,
            number: 0,
            asked_at: Moment::ORIGIN,
            confirmed: false,
            turn: None,
            running: Vec::new(),
            watch,
            verdicts: Vec::new(),
            ended: false,
            version: 0,
        }
    }

    pub(super) fn caution(&self) -> Caution {
        match self.evidence.unclean_starts {
            0 => Caution::None,
            unclean if unclean < ISOLATION_STARTS => Caution::Wary,
            _ => Caution::Isolated,
        }
    }

    /// What a commit says now.
    pub(super) fn evidence(&self) -> Evidence {
        if self.ended {
            return self.evidence.clone();
        }
        let running = self.asked.as_ref().map(|_| self.here);
        Evidence { running, named: self.asked.clone().unwrap_or_default(), ..self.evidence.clone() }
    }

    /// Whether the broker knows what is about to run; else a mark is wanted from now on.
    fn covers(&mut self, named: Named, now: Moment) -> bool {
        if self.asked.as_ref() != Some(&named) {
            self.asked = Some(named);
            self.number += 1;
            self.asked_at = now;
            self.confirmed = false;
            self.version += 1;
        }
        self.confirmed || (self.caution() == Caution::None && now.since(self.asked_at) >= MARK_PATIENCE)
    }

    /// Whether a record is not to run any more.
    fn is_poison(&self, offset: Offset) -> bool {
        !self.evidence.suspects.is_empty() && self.evidence.crashes(offset) >= POISON_CRASHES
    }

    pub(super) fn settled(&mut self, offset: Offset) {
        if !self.evidence.suspects.is_empty() {
            self.evidence.settled(offset);
            self.version += 1;
        }
    }

    /// The offsets from here on stand for other records now.
    pub(super) fn log_was_cut(&mut self, from: Offset) {
        self.evidence.suspects.retain(|suspect| suspect.offset < from);
    }

    /// The record that runs alone, by its mark.
    fn alone(&self) -> Option<&Running> {
        let Some(Named::Alone(named)) = self.asked else { return None };
        self.running.iter().find(|running| running.offset == named)
    }

    pub(super) fn attempt_ended(&mut self, slot: u32) {
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
    /// How careful it is.
    pub fn caution(&self) -> Caution {
        self.cautious.caution()
    }

    /// The mark that has to be committed, with the watermark and metadata as they are from now on, before anything more
    /// starts. Answered by [`mark_confirmed`](Self::mark_confirmed).
    pub fn wanted_mark(&self) -> Option<Mark> {
        let cautious = &self.cautious;
        (cautious.asked.is_some() && !cautious.confirmed && !cautious.ended).then_some(Mark(cautious.number))
    }

    /// Whether something could start if only the broker knew of it; if so, a mark is wanted from now on.
    pub fn next_start_needs_mark(&mut self) -> bool {
        if self.holds_starts() || self.running() >= self.settings.concurrency.max(1) {
            return false;
        }
        let head = self.ready.front().copied();
        head.is_some_and(|slot| !self.is_covered(slot)) && self.wanted_mark().is_some()
    }

    /// The broker has this mark. One that is not the latest changes nothing.
    pub fn mark_confirmed(&mut self, mark: Mark) {
        if mark.0 == self.cautious.number && self.cautious.asked.is_some() {
            self.cautious.confirmed = true;
        }
    }

    /// Whether a commit made now says that records run.
    pub fn is_marked(&self) -> bool {
        self.cautious.asked.is_some() && !self.cautious.ended
    }

    /// The turn it needs to start what is ready, if it needs one and does not have it. The caller, who sees to it that no
    /// two turns of a process collide, answers with [`begin_turn`](Self::begin_turn).
    pub fn wants_turn(&self) -> Option<Turn> {
        if self.cautious.turn.is_some() || !self.could_start() {
            return None;
        }
        match self.caution() {
            Caution::None => None,
            _ => self.ready.front().map(|&slot| self.turn_of(slot)),
        }
    }

    /// The turn that a record needs.
    fn turn_of(&self, slot: u32) -> Turn {
        let evidence = &self.cautious.evidence;
        match (self.caution(), self.pending.get(slot).offset) {
            (Caution::Isolated, offset) if evidence.crashes(offset) > 0 => Turn::Quiet,
            (Caution::Isolated, offset) if evidence.is_suspected(offset) => Turn::Alone,
            (Caution::Wary, _) if self.is_lone(slot) => Turn::Alone,
            _ => Turn::Shared,
        }
    }

    /// Whether it is the only one in the partition. Named alone at its second crash it would be condemned without a trial.
    fn is_lone(&self, slot: u32) -> bool {
        let pending = self.pending.get(slot);
        self.pending.len() == 1 && pending.watched && self.crashes(pending.offset) == 0
    }

    /// Whether something would start if there were no caution. Without room a turn would be of no use, to whomever has it.
    fn could_start(&self) -> bool {
        !self.holds_starts() && !self.ready.is_empty() && self.running() < self.settings.concurrency.max(1)
    }

    /// It has its turn, of the kind it asked for.
    pub fn begin_turn(&mut self, kind: Turn) {
        self.cautious.turn = Some(Held { kind, since: self.now, ending: false, next: None });
    }

    /// Others wait: a shared turn names nothing more and ends when what is named has run; in one that is its own the suspect
    /// that runs is the last one, unless the turn has only just begun. To be repeated as long as others wait.
    pub fn yield_turn(&mut self) {
        let now = self.now;
        if let Some(turn) = &mut self.cautious.turn {
            turn.ending |= turn.kind == Turn::Shared || now.since(turn.since) >= TURN_PATIENCE;
        }
    }

    fn end_turn_early(&mut self) {
        if let Some(turn) = &mut self.cautious.turn {
            turn.ending = true;
        }
    }

    /// Gives its turn back if it has no more use for it: nothing suspicious runs and the broker knows it; until then, that
    /// may want one more mark. `true` where it holds none now.
    pub fn end_turn(&mut self) -> bool {
        let Some(turn) = self.cautious.turn else { return true };
        let goes_on = self.caution() != Caution::None
            && self.could_start()
            && (!turn.ending || self.ready.front().is_some_and(|&slot| self.is_named(slot)));
        if goes_on || !self.cautious.running.is_empty() {
            return false;
        }
        // Also where its end was the progress that ends all care: a name that is still on the broker would be suspected at the
        // next partition's crash.
        if self.cautious.asked.is_some() && !self.cautious.covers(Named::Nobody, self.now) {
            return false;
        }
        self.cautious.turn = None;
        true
    }

    /// The end of the log when this epoch began, or later: what lies behind it was not there to crash anybody before.
    pub fn log_ends_at(&mut self, end: crate::Position) {
        self.cautious.watch.log_ends_at(end);
        self.look_for_progress();
    }

    /// A verdict to be told to the operator. The record's write, if it gets one, comes as any other.
    pub fn next_poisoned(&mut self) -> Option<Poisoned> {
        self.cautious.verdicts.pop()
    }

    /// At how many crashes a record was named.
    pub fn crashes(&self, offset: Offset) -> u32 {
        self.cautious.evidence.crashes(offset)
    }

    /// The epoch ends in order, whether or not all that runs has finished: nothing starts any more, and what is committed
    /// from now on carries no mark.
    pub fn end(&mut self) {
        self.draining = true;
        self.cautious.ended = true;
        if self.cautious.asked.is_some() {
            self.cautious.version += 1;
        }
    }

    /// Changes whenever what a commit would say about crashes does.
    pub fn evidence_version(&self) -> u64 {
        self.cautious.version
    }

    /// When caution has something to do.
    pub(super) fn caution_deadline(&self) -> Option<Moment> {
        let cautious = &self.cautious;
        let patience = (cautious.asked.is_some() && !cautious.confirmed && self.caution() == Caution::None)
            .then(|| cautious.asked_at + MARK_PATIENCE)
            .filter(|&moment| moment > self.now);
        let let_go = cautious.alone().map(|alone| alone.since + SUSPECT_PATIENCE);
        patience.into_iter().chain(let_go).min()
    }

    /// A suspect that has run for long is let go.
    pub(super) fn caution_tick(&mut self) {
        let alone = self.cautious.alone().filter(|alone| self.now.since(alone.since) >= SUSPECT_PATIENCE);
        if let Some(&Running { slot, .. }) = alone {
            self.cautious.attempt_ended(slot);
            self.unwatch(slot);
        }
    }

    /// Whether the head of the ready queue may start as far as crashes go; else it is waited for a mark or a turn.
    pub(super) fn is_covered(&mut self, slot: u32) -> bool {
        if self.caution() == Caution::None {
            // Named still, and let go: what runs next must not run under its name.
            return self.cautious.covers(Named::Nobody, self.now);
        }
        if !self.is_named(slot) {
            self.name_next(slot);
        }
        self.is_named(slot) && self.cautious.confirmed
    }

    /// Whether it has its turn, and what is asked for names it in the way it is to be named.
    fn is_named(&self, slot: u32) -> bool {
        let offset = self.pending.get(slot).offset;
        match (self.cautious.turn, &self.cautious.asked) {
            (Some(Held { kind: Turn::Shared, .. }), Some(Named::Together(named))) => {
                named.binary_search(&offset).is_ok()
            }
            (Some(Held { next, .. }), Some(Named::Alone(_))) => next == Some(offset),
            _ => false,
        }
    }

    /// Names the head of the ready queue, and in a shared turn what runs and more of what comes next.
    fn name_next(&mut self, slot: u32) {
        let Some(turn) = self.cautious.turn.filter(|turn| !turn.ending) else { return };
        let offset = self.pending.get(slot).offset;
        let fits = match turn.kind {
            Turn::Shared => self.caution() == Caution::Wary || self.turn_of(slot) == Turn::Shared,
            Turn::Alone => self.turn_of(slot) == Turn::Alone,
            Turn::Quiet => self.caution() == Caution::Isolated,
        };
        if !fits {
            return self.end_turn_early();
        }
        let running = self.cautious.running.len();
        let named = match turn.kind {
            // A mark for every place that becomes free would be too many.
            Turn::Shared if running > GROUP / 2 => return,
            Turn::Shared => self.with_what_comes_next(),
            Turn::Alone | Turn::Quiet if running > 0 => return,
            Turn::Alone | Turn::Quiet => Named::Alone(offset),
        };
        self.cautious.covers(named, self.now);
        if let Some(turn) = &mut self.cautious.turn
            && turn.kind != Turn::Shared
        {
            turn.next = Some(offset);
            // Healthy partitions wait.
            turn.ending = turn.kind == Turn::Quiet;
        }
    }

    fn with_what_comes_next(&self) -> Named {
        let is_isolated = self.caution() == Caution::Isolated;
        let running = &self.cautious.running;
        let suspicions = MAX_SUSPECTS.saturating_sub(self.cautious.evidence.suspects.len());
        let more = GROUP.min(suspicions).saturating_sub(running.len()).max(1);
        let next = self.ready.iter().take(more).take_while(|&&slot| !is_isolated || self.turn_of(slot) == Turn::Shared);
        let next = next.map(|&slot| self.pending.get(slot).offset);
        let mut named: Vec<_> = running.iter().map(|running| running.offset).chain(next).collect();
        named.sort_unstable();
        Named::Together(named)
    }

    pub(super) fn started(&mut self, slot: u32) {
        let offset = self.pending.get(slot).offset;
        let cautious = &mut self.cautious;
        if cautious.asked.as_ref().is_some_and(|named| named.offsets().contains(&offset)) {
            cautious.running.push(Running { slot, offset, since: self.now });
        }
        if let Some(turn) = &mut cautious.turn {
            turn.next = None;
        }
    }

    /// The suspect that runs, alone and named.
    pub fn running_suspect(&self) -> Option<Offset> {
        self.cautious.alone().map(|suspect| suspect.offset)
    }

    /// The last word on a record whose turn it would be; `false` where there is none.
    pub(super) fn condemn(&mut self, slot: u32) -> bool {
        let offset = self.pending.get(slot).offset;
        if !self.cautious.is_poison(offset) {
            return false;
        }
        let retry = &self.settings.retry;
        let fate = match (retry.on_exhausted, retry.dead_letter_topic) {
            (Exhausted::Park, _) => PoisonFate::Parked(ParkReason::Policy(Reason::Poison)),
            (Exhausted::Stop, _) => PoisonFate::Stop,
            (Exhausted::DeadLetter, false) => PoisonFate::Parked(ParkReason::NoDeadLetterTopic),
            (Exhausted::DeadLetter, true) => PoisonFate::DeadLetter,
        };
        self.cautious.verdicts.push(Poisoned { offset, crashes: self.crashes(offset), fate });
        match fate {
            PoisonFate::DeadLetter => {
                self.pending.get_mut(slot).publish = Some(Publish::DeadLetter { reason: Reason::Poison });
                self.unwatch(slot);
                self.queue_publish(slot);
            }
            PoisonFate::Parked(_) => self.hold_for_good(slot),
            PoisonFate::Stop => {
                self.stopped = true;
                self.hold_for_good(slot);
            }
        }
        // The crashes are explained. The others go on as after a first crash: if there is one more like it, the next
        // start isolates at once.
        let unclean = &mut self.cautious.evidence.unclean_starts;
        *unclean = (*unclean).min(ISOLATION_STARTS - 1);
        self.cautious.version += 1;
        // The next turn is of another kind.
        self.end_turn_early();
        self.look_for_progress();
        true
    }

    /// Parks a record; what is behind it in its lane will not run in this epoch either.
    pub(super) fn hold_for_good(&mut self, slot: u32) {
        self.pending.set_state(slot, State::Parked);
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
