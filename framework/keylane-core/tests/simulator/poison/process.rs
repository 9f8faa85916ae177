//! One process, as far as the shell guarantees anything about it: what an opening found goes to the
//! broker before any mark, commits arrive in the order they were sent, a mark is confirmed after it
//! has arrived, and turns do not collide.

use std::collections::{BTreeMap, VecDeque};

use keylane_core::{
    Beginning, Caution, Evidence, Instance, MAX_METADATA_BYTES, Mark, Moment, Named, Offset,
    Partition, TURN_PATIENCE, Ticket, Turn,
};

/// Nobody waits for the answer to what an opening has found, but it needs one.
pub(super) const OPENING: Mark = Mark::new(0);

pub(super) struct Owner {
    pub(super) partition: Partition<()>,
    /// The next offset to deliver.
    pub(super) read: i64,
    pub(super) running: Vec<(Ticket, i64)>,
    pub(super) turn: Option<Turn>,
    /// What it found is not on the broker yet.
    pub(super) opening: bool,
    /// What is committed is not known yet, and nothing is read.
    pub(super) beginning: Option<Beginning>,
    asked: Option<Mark>,
    /// Times that somebody else's wish for its turn came after it had lasted for a while.
    waits: u32,
}

impl Owner {
    pub(super) fn new(partition: Partition<()>, read: i64, opening: bool) -> Self {
        Self {
            partition,
            read,
            running: Vec::new(),
            turn: None,
            opening,
            beginning: None,
            asked: None,
            waits: 0,
        }
    }

    /// Between two groups only, and a few times: the patience for what runs and for the coordinator
    /// is not to come to an end.
    fn let_time_pass(&mut self) {
        if self.running.is_empty()
            && self.waits < 5
            && self.partition.caution() == Caution::Isolated
        {
            self.waits += 1;
            self.partition
                .tick(Moment::ORIGIN + self.waits * TURN_PATIENCE);
        }
    }
}

pub(super) struct Sent {
    pub(super) log: usize,
    pub(super) position: i64,
    pub(super) metadata: String,
    pub(super) mark: Option<Mark>,
}

/// Something has begun to run.
pub(super) struct Started {
    pub(super) log: usize,
    pub(super) offset: i64,
}

pub(super) struct Process {
    pub(super) here: Instance,
    /// By the number of their log.
    pub(super) owners: BTreeMap<usize, Owner>,
    pub(super) sent: VecDeque<Sent>,
    /// Who asked for a turn, in order.
    waiting: VecDeque<(usize, Turn)>,
    /// So many were asked for.
    pub(super) marks: usize,
}

impl Process {
    pub(super) fn new(here: Instance) -> Self {
        Self {
            here,
            owners: BTreeMap::new(),
            sent: VecDeque::new(),
            waiting: VecDeque::new(),
            marks: 0,
        }
    }

    pub(super) fn owner(&mut self, log: usize) -> &mut Owner {
        self.owners.get_mut(&log).expect("it is assigned")
    }

    /// Starts what may start, and asks for the mark that the rest waits for.
    pub(super) fn start(&mut self, log: usize) -> Vec<Started> {
        let is_quiet = self.is_quiet();
        let owner = self.owner(log);
        let mut started = Vec::new();
        if is_quiet && owner.partition.caution() == Caution::None {
            return started;
        }
        while let Some(start) = owner.partition.next_start() {
            let offset = start.offset.get();
            owner.running.push((start.ticket, offset));
            started.push(Started { log, offset });
        }
        let mark = owner.partition.wanted_mark();
        if mark.is_some() && mark != owner.asked && !self.is_opening() {
            self.owner(log).asked = mark;
            self.marks += 1;
            self.send(log);
        }
        started
    }

    /// Somebody has a quiet turn, or is next and waits for what runs.
    fn is_quiet(&self) -> bool {
        let held = self.owners.values().filter_map(|owner| owner.turn);
        held.chain(self.waiting.front().map(|&(_, turn)| turn))
            .any(|turn| turn == Turn::Quiet)
    }

    fn is_opening(&self) -> bool {
        self.owners.values().any(|owner| owner.opening)
    }

    /// Commits what there is, the mark that is waited for included.
    pub(super) fn send(&mut self, log: usize) {
        let opening = self.is_opening();
        let partition = &self.owner(log).partition;
        let Some(position) = partition.watermark() else {
            return;
        };
        let metadata = partition.commit_metadata(MAX_METADATA_BYTES).text;
        let mark = partition.wanted_mark().filter(|_| !opening);
        self.sent.push_back(Sent {
            log,
            position: position.get(),
            metadata,
            mark,
        });
    }

    /// A commit has arrived.
    pub(super) fn confirm(&mut self, log: usize, mark: Mark) {
        // Else its partition was given away, and nobody waits.
        let Some(owner) = self.owners.get_mut(&log) else {
            return;
        };
        owner.opening = false;
        owner.partition.mark_confirmed(mark);
    }

    /// As the shell does it: first come, first served, and whoever shares gives way to one that is
    /// to be alone.
    pub(super) fn take_turn(&mut self, log: usize) -> Vec<Started> {
        let mut started = Vec::new();
        let alone_waits = self.waiting.iter().any(|&(_, turn)| turn != Turn::Shared);
        let somebody_waits = !self.waiting.is_empty();
        let owner = self.owner(log);
        if owner.turn.is_some() {
            if owner.turn == Some(Turn::Shared) && alone_waits {
                owner.partition.yield_turn();
            } else if owner.turn == Some(Turn::Alone) && somebody_waits {
                owner.let_time_pass();
                owner.partition.yield_turn();
            }
            if owner.partition.end_turn() {
                owner.turn = None;
            }
            started = self.start(log);
        } else {
            let wanted = owner.partition.wants_turn();
            if !self.waiting.iter().any(|&(waiting, _)| waiting == log) {
                self.waiting.extend(wanted.map(|turn| (log, turn)));
            }
        }
        while let Some(&(log, turn)) = self.waiting.front() {
            let mut held = self.owners.values().filter_map(|owner| owner.turn);
            let free = match turn {
                Turn::Shared => held.all(|held| held == Turn::Shared),
                Turn::Alone => held.next().is_none(),
                Turn::Quiet => {
                    held.next().is_none()
                        && self.owners.values().all(|owner| owner.running.is_empty())
                }
            };
            if !free {
                break;
            }
            self.waiting.pop_front();
            self.owner(log).turn = Some(turn);
            self.owner(log).partition.begin_turn(turn);
        }
        started
    }

    /// Its owner is gone, and what it held or waited for with it.
    pub(super) fn close(&mut self, log: usize) {
        self.owners.remove(&log);
        self.waiting.retain(|&(waiting, _)| waiting != log);
    }

    /// Nothing starts that the broker does not know of.
    pub(super) fn check(&self, started: &Started, broker: &Evidence) {
        let owner = &self.owners[&started.log];
        let what = format!(
            "{} of partition {} started; the broker has {broker:?}",
            started.offset, started.log
        );
        assert_eq!(broker.running, Some(self.here), "{what}");
        let unclean_starts = match owner.partition.caution() {
            Caution::None => 0,
            Caution::Wary => {
                assert!(
                    broker
                        .named
                        .offsets()
                        .contains(&Offset::new(started.offset)),
                    "{what}"
                );
                1
            }
            Caution::Isolated => {
                assert!(
                    broker
                        .named
                        .offsets()
                        .contains(&Offset::new(started.offset)),
                    "{what}"
                );
                2
            }
        };
        assert!(broker.unclean_starts >= unclean_starts, "{what}");
        if broker.named != Named::Nobody {
            let is_named = |&(_, offset): &(Ticket, i64)| {
                broker.named.offsets().contains(&Offset::new(offset))
            };
            assert!(owner.running.iter().all(is_named), "not alone: {what}");
        }
        let offset = Offset::new(started.offset);
        if unclean_starts == 2 {
            assert_eq!(
                broker.named == Named::Alone(offset),
                broker.is_suspected(offset),
                "{what}"
            );
        }
        if broker.named == Named::Alone(offset) {
            let is_trial = owner.partition.crashes(offset) > 0;
            let besides = self.owners.iter().filter(|&(log, _)| *log != started.log);
            let suspicious =
                besides.filter(|(_, other)| is_trial || other.partition.caution() != Caution::None);
            let running = suspicious
                .map(|(_, other)| other.running.len())
                .sum::<usize>();
            assert_eq!(running, 0, "beside what is suspicious too: {what}");
        }
    }
}
