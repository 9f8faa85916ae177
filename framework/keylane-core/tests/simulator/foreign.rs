//! Another group on the same retry topic: its records, whether it is alive, and what members learn
//! of it.

use std::time::Duration;

use keylane_core::{
    Groups, Liveness, Moment, Offset, Ownership, Provenance, Ruling, Settlement, Verdict,
};

use crate::broker::{LOGS, LogRecord, RETRY};
use crate::owner::{Doing, Owner};
use crate::plan::{Behaviour, Fits, Plan};
use crate::random::Random;
use crate::violation::{Checked, ensure};
use crate::world::{Fault, MEMBERS, World};

const THEIRS: &str = "theirs";
/// A member may go by an answer of this age.
const OLDEST_ANSWER: Duration = Duration::from_secs(120);

/// The other group, and each member's state of it.
pub(crate) struct Neighbours {
    ownership: Ownership,
    groups: [Groups; MEMBERS],
    alive: bool,
    /// Until when it was seen to be alive.
    last_alive: Option<Moment>,
    /// Whether it is alive at the end of the run.
    stays: bool,
}

impl Neighbours {
    pub(crate) fn new(random: &mut Random) -> Self {
        Self {
            ownership: Ownership {
                group: "ours".into(),
                origins: vec!["origin".into()],
                ..Ownership::default()
            },
            groups: Default::default(),
            alive: random.percent(60),
            last_alive: None,
            stays: random.percent(50),
        }
    }

    pub(crate) fn rule(&mut self, member: usize, record: &LogRecord, now: Moment) -> Ruling {
        let group = if record.theirs { THEIRS } else { "ours" };
        let provenance = Provenance {
            group: Some(group),
            origin_topic: Some("origin"),
            requeued: false,
        };
        let whose = self.ownership.whose(provenance);
        let groups = &mut self.groups[member];
        self.ownership.rule(whose, || groups.liveness(THEIRS, now))
    }

    /// A member's process starts again.
    pub(crate) fn forget(&mut self, member: usize) {
        self.groups[member] = Groups::default();
    }

    /// G1: the other group was alive a short while ago.
    fn check_settled(&self, offset: i64, now: Moment) -> Checked<()> {
        let lately = self
            .last_alive
            .is_some_and(|seen| now.since(seen) <= OLDEST_ANSWER);
        ensure!(
            lately,
            "G1: {offset} is settled as foreign, last alive {:?}",
            self.last_alive
        );
        Ok(())
    }
}

impl World {
    /// The other group comes, goes, or fails some records.
    pub(crate) fn neighbour(&mut self) {
        if self.random.percent(15) {
            self.neighbours.alive = !self.neighbours.alive;
        }
        for _ in 0..=self.random.below(2) {
            let identity = self.plans.len();
            self.plans.push(Plan {
                behaviour: Behaviour::Theirs,
                unwritable: false,
                fits: Fits::Everywhere,
                hangs: false,
            });
            self.attempts.push(0);
            let key = (!self.random.percent(15)).then(|| self.random.below(5));
            let due = self
                .random
                .percent(30)
                .then(|| self.millis() + self.random.below(500));
            let record = LogRecord {
                offset: 0,
                identity,
                key,
                due,
                rounds: 1,
                attempts: 1,
                retried_for: Duration::ZERO,
                epoch: 0,
                theirs: true,
            };
            self.retry_log_append(record);
        }
    }

    /// A member sends a query, if it is time to, and checks what it holds.
    pub(crate) fn ask(&mut self) -> Checked<()> {
        let member = self.random.index(MEMBERS);
        let now = self.now;
        let truth = if self.neighbours.alive {
            Liveness::Alive
        } else {
            Liveness::Gone
        };
        let is_told = self.calm || self.random.percent(75);
        let groups = &mut self.neighbours.groups[member];
        if let Some(group) = groups.next_question(now) {
            groups.answered(&group, if is_told { truth } else { Liveness::Unknown }, now);
            if is_told && self.neighbours.alive {
                self.neighbours.last_alive = Some(now);
            }
        }
        self.look_at_held(member)
    }

    fn look_at_held(&mut self, member: usize) -> Checked<()> {
        let Some(owner) = self.owners[RETRY]
            .as_mut()
            .filter(|owner| owner.member == member)
        else {
            return Ok(());
        };
        let (neighbours, now) = (&mut self.neighbours, self.now);
        let held = owner
            .held()
            .next()
            .map(|offset| owner.unsettled[&offset].record);
        let expected = held.map(|record| neighbours.rule(member, &record, now));
        let is_foreign = |_: &usize| expected == Some(Ruling::Settle);
        let mut settled = Vec::new();
        for verdict in owner.partition.settle_held(is_foreign) {
            let Verdict::Settled {
                outcome: Settlement::Foreign,
                offset,
                record,
                ..
            } = verdict
            else {
                return Err(format!("a held record is settled as {verdict:?}"));
            };
            let entry = owner.unsettled.get(&offset.get()).copied();
            let is_it =
                entry.is_some_and(|it| it.doing == Doing::Held && it.record.identity == record);
            ensure!(is_it, "{offset} is settled as foreign and is {entry:?}");
            settled.push(offset.get());
        }
        settled.sort_unstable();
        let all: Vec<i64> = owner.held().collect();
        ensure!(
            expected != Some(Ruling::Settle) || all == settled,
            "{all:?} are held, {settled:?} settled"
        );
        for &offset in &settled {
            neighbours.check_settled(offset, now)?;
            owner.settle(offset);
            self.broker.logs[RETRY].settle(offset, Settlement::Foreign);
            *self
                .corners
                .entry("a held record settled as foreign")
                .or_default() += 1;
        }
        Ok(())
    }

    /// A record was settled as foreign when it was delivered.
    pub(crate) fn settled_at_delivery(&mut self, log: usize, offset: i64) -> Checked<()> {
        self.neighbours.check_settled(offset, self.now)?;
        self.broker.logs[log].settle(offset, Settlement::Foreign);
        Ok(())
    }

    /// What is held is settled where the other group is alive. Only records without a live group
    /// stay held.
    pub(crate) fn calm_neighbours(&mut self) -> Checked<()> {
        self.neighbours.alive = self.neighbours.stays;
        let holds = self.owners[RETRY]
            .as_ref()
            .is_some_and(|owner| owner.held().next().is_some());
        if !holds || !self.neighbours.stays {
            return Ok(());
        }
        // Longer than a member waits before its next query.
        self.tick(self.now + Duration::from_secs(31));
        for _ in 0..8 {
            self.ask()?;
        }
        Ok(())
    }

    /// Whether records of the other group may be left in the end.
    pub(crate) fn may_hold_theirs(&self) -> bool {
        !self.neighbours.stays
    }

    /// No fault of the shell is a reason to settle a record of the other group otherwise.
    pub(crate) fn check_theirs(&self) -> Checked<()> {
        for log in LOGS.into_iter().filter(|_| self.fault == Fault::None) {
            let log = &self.broker.logs[log];
            for record in log.records.iter().filter(|record| record.theirs) {
                let words = log.settled.get(&record.offset);
                let foreign = words.is_none_or(|words| {
                    let mut words = words.iter();
                    words.all(|word| ["foreign", "skipped by an operator"].contains(word))
                });
                ensure!(
                    foreign,
                    "{} is theirs and settled as {words:?}",
                    Offset::new(record.offset)
                );
            }
        }
        Ok(())
    }
}

impl Owner {
    /// What is held, in order.
    pub(crate) fn held(&self) -> impl Iterator<Item = i64> + '_ {
        let held = self
            .unsettled
            .iter()
            .filter(|(_, entry)| entry.doing == Doing::Held);
        held.map(|(&offset, _)| offset)
    }
}
