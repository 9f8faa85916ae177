//! Care after a crash: marks before starts, turns, and the verdict on a record that kills its process.
//!
//! A start that finds the mark of a process that ended without a word is *unclean*; see [`Evidence`]. How careful a
//! partition is depends on how many of them there were in a row:
//!
//! | unclean starts | caution | what runs |
//! |---|---|---|
//! | 0 | none | everything, once the mark of this epoch is on the broker |
//! | 1 | wary | everything, in a shared turn; a record that is alone in the partition is named |
//! | 2 and more | isolation | one record at a time, named, in a turn of its own; a suspect in a quiet one |
//!
//! What the broker knows always covers what runs: before a record starts that the last mark does not cover, a new mark is
//! wanted ([`Partition::wanted_mark`]) and nothing starts until it is confirmed. Turns keep the suspects of other
//! partitions of the process from running at the same time; without that a neighbour could be named at a crash that is
//! not its own. Partitions that have not crashed yet run beside all that, and one of them may hold a killer of its own: so a
//! name alone is a suspicion, and a record that is suspected is tried in a quiet turn, with nothing else running in the
//! process. A verdict always rests on such a trial.
//!
//! Progress ends it: see `watch.rs`. A record that was named at [`POISON_CRASHES`] crashes does not run again.

use std::time::Duration;

use super::pending::State;
use super::watch::Watch;
use super::{ParkReason, Partition, Publish};
use crate::evidence::{Evidence, ISOLATION_STARTS, Instance, POISON_CRASHES};
use crate::failure::Reason;
use crate::offset::Offset;
use crate::retry_policy::Exhausted;
use crate::time::Moment;

/// How long a partition that has nothing to be careful about waits for its first mark. The mark is insurance: while the
/// coordinator is away for longer, work goes on without it.
pub const MARK_PATIENCE: Duration = Duration::from_secs(10);
/// How long a suspect has its turn. One that has not killed by then is let go and runs on, so that the other partitions
/// that wait for a turn wait no longer than this.
pub const SUSPECT_PATIENCE: Duration = Duration::from_secs(60);

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
    /// What the broker is to know of this epoch; `None` before anything wants to start.
    asked: Option<Named>,
    number: u64,
    asked_at: Moment,
    confirmed: bool,
    turn: Option<Held>,
    /// The named record that runs.
    suspect: Option<Running>,
    pub(super) watch: Watch,
    verdicts: Vec<Poisoned>,
    ended: bool,
    /// Raised whenever the evidence changes.
    version: u64,
}

/// The record a mark names, if any.
type Named = Option<Offset>;

#[derive(Clone, Copy)]
struct Held {
    kind: Turn,
    /// Somebody else waits.
    ending: bool,
    /// In isolation: the one record has started.
    used: bool,
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
            suspect: None,
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
        Evidence { running: self.asked.map(|_| self.here), named: self.asked.flatten(), ..self.evidence.clone() }
    }

    /// Whether the broker knows what is about to run; else a mark is wanted from now on.
    fn covers(&mut self, named: Named, now: Moment) -> bool {
        if self.asked != Some(named) {
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

    pub(super) fn attempt_ended(&mut self, slot: u32) {
        self.suspect = self.suspect.filter(|suspect| suspect.slot != slot);
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
        if self.cautious.turn.is_some() || self.holds_starts() || self.ready.is_empty() {
            return None;
        }
        match self.caution() {
            Caution::None => None,
            Caution::Wary => Some(Turn::Shared),
            Caution::Isolated if self.ready.front().is_some_and(|&slot| self.is_suspected(slot)) => Some(Turn::Quiet),
            Caution::Isolated => Some(Turn::Alone),
        }
    }

    fn is_suspected(&self, slot: u32) -> bool {
        self.crashes(self.pending.get(slot).offset) > 0
    }

    /// It has its turn, of the kind it asked for.
    pub fn begin_turn(&mut self, kind: Turn) {
        self.cautious.turn = Some(Held { kind, ending: false, used: false });
    }

    /// Others wait: a shared turn starts nothing more and ends when what runs has ended.
    pub fn yield_turn(&mut self) {
        if let Some(turn) = &mut self.cautious.turn {
            turn.ending = true;
        }
    }

    /// Gives its turn back if it has no more use for it: nothing suspicious runs and the broker knows it; until then, that
    /// may want one more mark. `true` where it holds none now.
    pub fn end_turn(&mut self) -> bool {
        let Some(turn) = self.cautious.turn else { return true };
        let could_start = !self.holds_starts() && !self.ready.is_empty();
        let busy = match self.caution() {
            Caution::None => self.cautious.suspect.is_some(),
            Caution::Wary => self.running() > 0 || (could_start && !turn.ending),
            Caution::Isolated => self.cautious.suspect.is_some() || (could_start && !turn.used && !turn.ending),
        };
        if busy {
            return false;
        }
        // Also where its end was the progress that ends all care: a name that is still on the broker would be suspected at the
        // next partition's crash.
        if self.cautious.asked.is_some() && !self.cautious.covers(None, self.now) {
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
        let let_go = cautious.suspect.map(|suspect| suspect.since + SUSPECT_PATIENCE);
        patience.into_iter().chain(let_go).min()
    }

    /// A suspect that has run for long is let go.
    pub(super) fn caution_tick(&mut self) {
        if let Some(suspect) = self.cautious.suspect
            && self.now.since(suspect.since) >= SUSPECT_PATIENCE
        {
            self.cautious.suspect = None;
            self.unwatch(suspect.slot);
        }
    }

    /// Whether the head of the ready queue may start as far as crashes go; else it is waited for a mark or a turn.
    pub(super) fn is_covered(&mut self, slot: u32) -> bool {
        let caution = self.caution();
        let turn = self.cautious.turn;
        let offset = self.pending.get(slot).offset;
        let named = match (caution, turn) {
            // Named still, and let go: what runs next must not run under its name.
            (Caution::None, _) => None,
            (_, None | Some(Held { ending: true, .. })) => return false,
            (Caution::Wary, _) => {
                let only_one = self.pending.len() == 1 && self.pending.get(slot).watched;
                // Named once more it would be condemned, and a shared turn is no trial.
                (only_one && !self.is_suspected(slot)).then_some(offset)
            }
            (Caution::Isolated, Some(turn)) if turn.used => return false,
            (Caution::Isolated, Some(turn)) if turn.kind != Turn::Quiet && self.is_suspected(slot) => {
                self.yield_turn();
                return false;
            }
            (Caution::Isolated, _) => Some(offset),
        };
        let now = self.now;
        self.cautious.covers(named, now)
    }

    pub(super) fn started(&mut self, slot: u32) {
        let pending = self.pending.get(slot);
        let named = self.cautious.asked.flatten() == Some(pending.offset);
        if named {
            self.cautious.suspect = Some(Running { slot, offset: pending.offset, since: self.now });
        }
        if let Some(turn) = &mut self.cautious.turn {
            turn.used = true;
        }
    }

    /// The suspect that runs, alone and named.
    pub fn running_suspect(&self) -> Option<Offset> {
        self.cautious.suspect.map(|suspect| suspect.offset)
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
                self.pending.get_mut(slot).set_publish(Publish::DeadLetter { reason: Reason::Poison });
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
        self.yield_turn();
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
