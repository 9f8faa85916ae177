//! Partitions come and go: assigned, lost, or gone with a member that dies. `hand_over.rs` is about
//! those that are given back.

use keylane_core::member::PartitionLimits;
use keylane_core::{
    Beginning, Budget, LeaderEpoch, Offset, Partition, Position, PublishRequest, SettledMap, Step,
    commit_map,
};

use crate::broker::LOGS;
use crate::hand_over::Member;
use crate::owner::Owner;
use crate::violation::Checked;
use crate::world::{Fault, Guard, MEMBERS, World};

impl World {
    pub(crate) fn assign(&mut self, log: usize) -> Checked<()> {
        let member = self.random.index(MEMBERS);
        if self.member_of(log).is_some() || !self.members[member].may_be_assigned() {
            return Ok(());
        }
        if !self.calm && !self.mostly_good && self.random.percent(20) {
            self.cut(log);
        }
        let commit = self.broker.logs[log].committed.as_ref();
        let inherited = match commit {
            None => (SettledMap::new(), None),
            // What an operator wrote or moved is not ours, and is treated as empty.
            Some(commit) => {
                let content = commit_map::decode(Position::new(commit.position), &commit.metadata)
                    .unwrap_or_default();
                (content.settled, content.leader_epoch)
            }
        };
        self.epochs += 1;
        let limits = PartitionLimits {
            records: Budget::new(self.pause_at, self.pause_at * 7 / 10),
            ahead: Budget::new(self.pause_at * 2, self.pause_at),
        };
        let mut owner = Owner::new(
            member,
            self.epochs,
            self.settings[log].clone(),
            commit,
            inherited,
            limits,
        );
        let start = commit.map(|commit| (Position::new(commit.position), commit.leader_epoch));
        let way = start.and_then(|(position, epoch)| Beginning::confirm(position, epoch));
        if let Some(Step::Seek(position, epoch)) = way.map(|way| way.step())
            && self.fault != Fault::StartsWithoutTheConfirmingSeek
        {
            owner.fetch_at = self.broker.logs[log].confirmed(position.get(), epoch);
        }
        if self.fault == Fault::IgnoresTheLeaderEpoch {
            owner.partition.inherit_leader_epoch(None);
        }
        if self.fault == Fault::DropsTheInheritedMap {
            let start = commit.map(|commit| Position::new(commit.position));
            let epoch = owner.partition.epoch();
            owner.partition =
                Partition::new(self.settings[log].clone(), epoch, start, SettledMap::new());
        }
        self.owners[log] = Some(owner);
        self.members[member].assigned(log, self.epochs);
        if self.fault == Fault::LeavesANewOwnerWithoutDirectives {
            let given = self.directives[log].clone();
            self.owners[log]
                .iter_mut()
                .for_each(|owner| owner.given = given.clone());
            return Ok(());
        }
        self.direct(log)
    }

    /// The assignment is gone at once; what ran goes on running somewhere, and its results come
    /// late.
    pub(crate) fn lose(&mut self, log: usize) {
        if let Some(owner) = self.owners[log].take() {
            let mut owner = owner;
            owner
                .partition
                .leave_guard(&mut self.guards[owner.member].real);
            self.late
                .extend(owner.running.iter().map(|&(ticket, _)| (log, ticket)));
            self.late
                .extend(owner.writes.iter().map(|write| (log, write.ticket)));
            self.lose_writes(log, owner.writes);
        }
    }

    /// A member dies with all it holds. What it had sent may have arrived or not.
    pub(crate) fn crash(&mut self) -> Checked<()> {
        let member = self.random.index(MEMBERS);
        while self.random.percent(50) && self.commit_arrives(member, Ok(()))? {}
        for log in LOGS {
            if self.member_of(log) != Some(member) {
                continue;
            }
            self.ended[log] = None;
            if let Some(owner) = self.owners[log].take() {
                self.lose_writes(log, owner.writes);
            }
        }
        self.members[member] = Member::default();
        self.guards[member] = Guard::new(self.guard_settings);
        self.neighbours.forget(member);
        self.count("a crash");
        Ok(())
    }

    /// These writes are no longer awaited; the broker may have them or not.
    fn lose_writes(&mut self, log: usize, writes: Vec<PublishRequest>) {
        for write in writes {
            if self.random.percent(50) {
                self.store(log, write);
            }
        }
    }

    /// An unclean election: the log loses its end while no member reads it, and is written on under
    /// another leader.
    ///
    /// Never below a committed position that came without an epoch: what is written again up to
    /// there is not read, which cannot be detected.
    fn cut(&mut self, log: usize) {
        let is_confirmed = |epoch: Option<LeaderEpoch>| {
            epoch.is_some() || self.fault == Fault::CommitsNoLeaderEpoch
        };
        let cut = &mut self.broker.logs[log];
        let committed = cut.committed.as_ref();
        let position = committed.map_or(0, |commit| commit.position);
        let may_be_below = committed.is_some_and(|commit| is_confirmed(commit.leader_epoch));
        let range = match may_be_below && position > 0 && self.random.percent(33) {
            true => 0..position.min(cut.end()),
            false => position..cut.end(),
        };
        if range.is_empty() {
            return;
        }
        let has_map = committed.is_some_and(|commit| {
            let content = commit_map::decode(Position::new(commit.position), &commit.metadata)
                .unwrap_or_default();
            !content.settled.is_empty()
        });
        let end = range.start + self.random.below((range.end - range.start) as u64) as i64;
        self.cut_away.extend(cut.cut(end));
        // The source of the directives may see it later, where the next owner sees it first.
        if end >= position || self.random.percent(50) {
            self.directives[log].skips.split_off(&Offset::new(end));
        }
        if has_map {
            self.count("a log cut that a map is about");
        }
        if end < position {
            self.count("a log cut below the committed position");
        }
    }

    /// An operator sets a committed position back, with or without its metadata.
    pub(crate) fn operator(&mut self, log: usize) {
        if self.member_of(log).is_some() {
            return;
        }
        let its_log = &mut self.broker.logs[log];
        // Without its epoch a position above a cut would be taken for one of the log as it is now.
        let readable = its_log
            .committed
            .as_ref()
            .map(|commit| its_log.confirmed(commit.position, commit.leader_epoch));
        let (Some(readable), Some(commit)) = (readable, &mut its_log.committed) else {
            return;
        };
        let moved_with_a_map = !commit.metadata.is_empty();
        commit.position = (readable - self.random.below(10) as i64).max(0);
        commit.leader_epoch = None;
        if self.random.percent(30) {
            "set by an operator".clone_into(&mut commit.metadata);
        }
        if moved_with_a_map {
            self.count("a position moved with its map");
        }
    }
}
