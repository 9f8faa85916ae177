//! One process with one or two subscriptions: whatever a record of one of them does to it, it does
//! to both. Trials are of the process.

use std::collections::VecDeque;

use keylane_core::{Evidence, Instance, Moment, Named, Offset};

use super::Fault;
use super::subscription::{LastTrial, Owner, Subscription};

/// What an owner has of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permit {
    None,
    /// It may start anything but suspects. `fresh`: it has not done so yet.
    Run {
        fresh: bool,
    },
    /// It runs alone. `has_started`: its record has.
    Trial {
        since: Moment,
        has_started: bool,
    },
}

/// Something has begun to run.
pub(super) struct Started {
    pub(super) log: usize,
    pub(super) offset: i64,
}

pub(super) struct Process {
    pub(super) here: Instance,
    pub(super) subscriptions: Vec<Subscription>,
    fault: Fault,
    /// Who asked for a permit, in order. `true`: for a trial.
    waiting: VecDeque<(usize, bool)>,
    /// The number of marks that were asked for.
    pub(super) marks: usize,
}

impl Process {
    pub(super) fn new(here: Instance, subscriptions: usize, fault: Fault) -> Self {
        Self {
            here,
            subscriptions: (0..subscriptions)
                .map(|_| Subscription::new(fault))
                .collect(),
            fault,
            waiting: VecDeque::new(),
            marks: 0,
        }
    }

    pub(super) fn owners(&self) -> impl Iterator<Item = &Owner> {
        self.subscriptions.iter().flat_map(|of| &of.owners)
    }

    pub(super) fn subscription(&mut self, log: usize) -> &mut Subscription {
        let number = log % self.subscriptions.len();
        &mut self.subscriptions[number]
    }

    pub(super) fn find(&mut self, log: usize) -> Option<&mut Owner> {
        let owners = &mut self.subscription(log).owners;
        owners.iter_mut().find(|owner| owner.log == log)
    }

    pub(super) fn owner(&mut self, log: usize) -> &mut Owner {
        self.find(log).expect("it is assigned")
    }

    pub(super) fn logs(&self) -> Vec<usize> {
        let mut logs: Vec<_> = self.owners().map(|owner| owner.log).collect();
        logs.sort_unstable();
        logs
    }

    pub(super) fn pass(&mut self, answers: bool) {
        let all = self.subscriptions.iter_mut();
        all.for_each(|subscription| subscription.pass(answers));
    }

    /// Its owner is gone, and what it held or waited for with it.
    pub(super) fn close(&mut self, log: usize) -> Option<Owner> {
        self.waiting.retain(|&(waiting, _)| waiting != log);
        self.subscription(log).close(log)
    }

    /// Starts what may start, and reports the mark that the rest waits for.
    pub(super) fn start(&mut self, log: usize) -> Vec<Started> {
        let mut started = Vec::new();
        if !self.may_start(log) {
            return started;
        }
        let owner = self.owner(log);
        while let Some(start) = owner.partition.next_start() {
            let offset = start.offset.get();
            owner.running.push((start.ticket, offset));
            started.push(Started { log, offset });
        }
        match &mut owner.permit {
            Permit::Trial { has_started, .. } => *has_started |= !started.is_empty(),
            _ => owner.last_trial.others_wait &= started.is_empty(),
        }
        self.marks += usize::from(owner.report_mark());
        started
    }

    /// What is no trial shares a permit, first come, first served.
    fn may_start(&mut self, log: usize) -> bool {
        let is_of_trial =
            |&(other, is_trial): &(usize, bool)| is_trial && self.excludes(other, log);
        let trial_waits = self.waiting.iter().any(is_of_trial);
        let is_free = !trial_waits && !self.is_tried_beside(log);
        let owner = self.owner(log);
        if !owner.partition.has_next() && owner.running.is_empty() {
            return true;
        }
        match owner.permit {
            Permit::Trial { .. } => return true,
            Permit::Run { fresh } => {
                owner.permit = Permit::Run { fresh: false };
                return fresh || !trial_waits;
            }
            Permit::None => {}
        }
        if is_free {
            owner.permit = Permit::Run { fresh: false };
        } else if !self.waiting.contains(&(log, false)) {
            self.waiting.push_back((log, false));
        }
        is_free
    }

    /// Whether a trial of one is to keep the other from starting.
    fn excludes(&self, trial: usize, other: usize) -> bool {
        let subscriptions = self.subscriptions.len();
        match self.fault {
            Fault::TriesBesideOtherSubscriptions => trial % subscriptions == other % subscriptions,
            Fault::TriesBesideOthers => trial == other,
            _ => true,
        }
    }

    fn is_tried_beside(&self, log: usize) -> bool {
        let is_tried = |owner: &Owner| matches!(owner.permit, Permit::Trial { .. });
        self.owners()
            .any(|owner| is_tried(owner) && self.excludes(owner.log, log))
    }

    /// Trials begin and end, and permits are given back and given out. `others_wait`: a record that
    /// needs no trial is ready.
    pub(super) fn take_turn(&mut self, log: usize, others_wait: bool, now: Moment) -> Vec<Started> {
        let fault = self.fault;
        let owner = self.owner(log);
        owner.partition.tick(now);
        let is_over = owner.partition.end_trial();
        let leaves_names = fault == Fault::LeavesNames && owner.running.is_empty();
        if let Permit::Trial { since, has_started } = owner.permit
            && (is_over || (leaves_names && has_started))
        {
            owner.permit = Permit::None;
            owner.last_trial = LastTrial {
                ended: now,
                took: now.since(since),
                others_wait,
            };
        }
        let started = self.start(log);
        let owner = self.owner(log);
        let is_idle = owner.running.is_empty() || owner.partition.wants_trial();
        if is_idle && matches!(owner.permit, Permit::Run { .. }) {
            owner.permit = Permit::None;
        }
        let could_try = fault == Fault::TriesAgainAtOnce
            && owner.partition.has_suspects()
            && owner.running.is_empty();
        let wants_trial = owner.permit == Permit::None && owner.partition.wants_trial();
        let last = owner.last_trial;
        if (wants_trial || could_try) && !self.waiting.contains(&(log, true)) {
            self.waiting.push_back((log, true));
            let others_had = now.since(last.ended);
            let took = last.took;
            assert!(
                others_had >= took,
                "others have had {others_had:?} after a trial of {took:?}"
            );
            assert!(!last.others_wait, "others of partition {log} still wait");
        }
        while let Some(&(log, is_trial)) = self.waiting.front() {
            let runs = |owner: &Owner| owner.permit != Permit::None;
            let holds_up =
                |owner: &Owner| owner.log != log && runs(owner) && self.excludes(log, owner.log);
            let is_held_up = is_trial && self.owners().any(holds_up);
            if is_held_up || self.is_tried_beside(log) {
                break;
            }
            self.waiting.pop_front();
            let owner = self.owner(log);
            if is_trial {
                owner.permit = Permit::Trial {
                    since: now,
                    has_started: false,
                };
                owner.partition.set_now(now);
                owner.partition.begin_trial();
            } else {
                owner.permit = Permit::Run { fresh: true };
            }
        }
        started
    }

    /// Nothing starts that the broker does not know of.
    pub(super) fn check(&self, started: &Started, broker: &Evidence) {
        if self.fault == Fault::StartsBeforeTheAnswer {
            // What comes of it is what counts.
            return;
        }
        let mut owners = self.owners();
        let owner = owners
            .find(|owner| owner.log == started.log)
            .expect("it is assigned");
        let what = format!(
            "{} of partition {} started; the broker has {broker:?}",
            started.offset, started.log
        );
        assert_eq!(broker.running, Some(self.here), "{what}");
        if !owner.partition.is_careful() {
            return;
        }
        assert!(broker.unclean_starts > 0, "{what}");
        let offset = Offset::new(started.offset);
        let is_named = |offset: Offset| broker.named.offsets().contains(&offset);
        let running = owner.running.iter();
        let mut running = running.map(|&(_, offset)| Offset::new(offset));
        assert!(
            is_named(offset) && running.all(is_named),
            "not alone: {what}"
        );
        let is_alone = broker.named == Named::Alone(offset);
        assert_eq!(is_alone, broker.is_suspected(offset), "{what}");
        if is_alone {
            let log = started.log;
            let mut besides = self.owners().filter(|other| other.log != log);
            let runs = |other: &Owner| self.excludes(log, other.log) && !other.running.is_empty();
            assert!(!besides.any(runs), "beside what runs too: {what}");
        }
    }
}
