//! Partitions are given back: the shipped state machine of hand-over and shutdown, with a shell and
//! a group around it that go wrong in every way they may.

use std::sync::Arc;
use std::time::Duration;

use keylane_core::member::hand_over::{
    self, Answer, AnsweredBy, HandOver, LOSS_REPORTED, Order, Outcome, Revoked, Seen,
};
use keylane_core::member::{Refusal, TopicPartition};
use keylane_core::{MAX_METADATA_BYTES, Moment};

use crate::broker::{Commit, LOGS};
use crate::commits::MemberCommits;
use crate::violation::{Checked, ensure};
use crate::world::{Fault, Guard, World};

const TOPICS: [&str; LOGS.len()] = ["tasks", "tasks-retry"];

/// One member: the machine, and what its shell and client hold for it.
#[derive(Default)]
pub(crate) struct Member {
    hand_over: HandOver,
    /// Revoked and not answered, as the client sees it.
    owed: Vec<usize>,
    pub(crate) commits: MemberCommits,
    /// All that is owed is others' already, and the client does not say what.
    speaks_of_loss: bool,
    /// Since when the shell has heard that.
    heard: Option<Moment>,
    /// The group has given it to others, or it is gone.
    lost: [bool; LOGS.len()],
    has_failed: bool,
    /// Owners were given up that did not end.
    gave_up_owners: bool,
    gave_up_commit: bool,
}

/// An owner that has ended, until the revoke is answered.
pub(crate) struct Ended {
    member: usize,
    last_words: Option<Commit>,
    drained: bool,
    pending: usize,
}

/// What the machine sees of a partition.
struct View {
    topic: Arc<str>,
    ended: bool,
    drained: bool,
    pending: usize,
}

impl hand_over::Owner for View {
    fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    fn partition(&self) -> i32 {
        0
    }

    fn has_ended(&self) -> bool {
        self.ended
    }

    fn has_drained(&self) -> bool {
        self.drained
    }

    fn pending(&self) -> u64 {
        self.pending as u64
    }
}

impl Member {
    /// The client takes no other assignment before its answer.
    pub(crate) fn may_be_assigned(&self) -> bool {
        self.owed.is_empty()
    }

    pub(crate) fn assigned(&mut self, log: usize, epoch: u64) {
        self.lost[log] = false;
        self.commits.assign(log, place(log), epoch);
        self.hand_over.assigned(&[place(log)]);
    }

    pub(crate) fn has_lost(&self, log: usize) -> bool {
        self.lost[log]
    }

    /// An owner reports what may be committed.
    pub(crate) fn report(&mut self, log: usize, commit: Commit, running: bool) {
        self.commits.report(log, commit, running);
    }
}

impl World {
    /// The group asks for a partition, because another member has come.
    pub(crate) fn revoke(&mut self, log: usize) {
        if let Some(member) = self.member_of(log) {
            self.is_revoked(member, log, Revoked::Asked);
        }
    }

    /// The group has given a partition away without asking, or its topic is gone.
    pub(crate) fn take_away(&mut self, log: usize) {
        let Some(member) = self.member_of(log) else {
            return;
        };
        let is_under_way = !self.members[member].owed.is_empty();
        let it = &mut self.members[member];
        let is_part_lost = it.owed.iter().any(|&log| it.lost[log]);
        if it.speaks_of_loss {
            return;
        }
        if is_under_way && !is_part_lost && self.random.percent(50) {
            it.speaks_of_loss = true;
            it.owed.iter().for_each(|&log| it.lost[log] = true);
            return;
        }
        match Revoked::Lost.answered_by(false, is_under_way) {
            AnsweredBy::Callback => self.lose_now(log),
            AnsweredBy::HandOver => {
                self.members[member].lost[log] = true;
                self.is_revoked(member, log, Revoked::Lost);
            }
        }
    }

    fn is_revoked(&mut self, member: usize, log: usize, revoked: Revoked) {
        let millis = self.random.pick(&[0, 100, 1_000, 10_000]);
        let deadline = self.now + Duration::from_millis(millis);
        let is_looked_up = self.random.percent(20);
        let (fault, now) = (self.fault, self.now);
        let it = &mut self.members[member];
        let is_owed = it.owed.contains(&log);
        if it.speaks_of_loss || (is_owed && revoked == Revoked::Asked) {
            return;
        }
        if !is_owed {
            it.owed.push(log);
        }
        if fault == Fault::ForgetsASecondRevoke && it.owed.len() > 1 {
            return;
        }
        it.hand_over
            .revoke(vec![place(log)], revoked, is_looked_up, deadline, now);
        if it.owed.len() > 1 && !is_owed {
            self.count("two revokes with one answer");
        }
    }

    pub(crate) fn shut_down(&mut self, member: usize) {
        let millis = self.random.pick(&[0, 1_000, 10_000]);
        let deadline = self.now + Duration::from_millis(millis);
        self.members[member].hand_over.shut_down(deadline);
    }

    /// It leaves as soon as it can.
    fn fail(&mut self, member: usize) {
        let it = &mut self.members[member];
        it.has_failed = true;
        it.hand_over.fail();
    }

    /// A record has stopped the subscription.
    pub(crate) fn fail_if_stopped(&mut self, member: usize) {
        let mut owners = self.owners.iter().flatten();
        if owners.any(|owner| owner.member == member && owner.stopped) {
            self.fail(member);
        }
    }

    pub(crate) fn member_of(&self, log: usize) -> Option<usize> {
        let ended = self.ended[log].as_ref().map(|ended| ended.member);
        ended.or(self.owners[log].as_ref().map(|owner| owner.member))
    }

    pub(crate) fn is_giving_back(&self, member: usize) -> bool {
        let hand_over = &self.members[member].hand_over;
        hand_over.is_under_way() || hand_over.is_shutting_down()
    }

    /// One pass of the member's shell.
    pub(crate) fn look(&mut self, member: usize) -> Checked<()> {
        for log in LOGS {
            self.end_owner(member, log)?;
        }
        self.answer_last_commit(member)?;
        let now = self.now;
        let it = &mut self.members[member];
        if it.speaks_of_loss {
            it.heard.get_or_insert(now);
        }
        for pass in 0.. {
            ensure!(pass < 50, "orders without end");
            let views = self.views(member);
            let it = &mut self.members[member];
            let seen = Seen {
                now: self.now,
                lost: it.speaks_of_loss,
                last_commit_is_over: it.commits.step_last(self.now),
                owners: &views,
            };
            match it.hand_over.next(&seen) {
                Some(order) => self.carry_out(member, order)?,
                None => break,
            }
        }
        Ok(())
    }

    fn views(&self, member: usize) -> Vec<View> {
        let hasty = self.fault == Fault::HandsOverWhatStillRuns;
        let view = |log: usize| {
            let (ended, drained, pending) = match (&self.ended[log], &self.owners[log]) {
                (Some(ended), _) => (true, ended.drained, ended.pending),
                (_, Some(owner)) => (hasty, hasty, owner.partition.pending()),
                _ => (true, true, 0),
            };
            View {
                topic: TOPICS[log].into(),
                ended,
                drained,
                pending,
            }
        };
        let logs = LOGS.into_iter();
        logs.filter(|&log| self.member_of(log) == Some(member))
            .map(view)
            .collect()
    }

    /// An owner ends once it is drained, or on order; not at once, and where its processor blocks
    /// the thread not for long.
    fn end_owner(&mut self, member: usize, log: usize) -> Checked<()> {
        let Some(owner) = self.owners[log].as_mut().filter(|it| it.member == member) else {
            return Ok(());
        };
        let drained = owner.draining && owner.partition.is_drained();
        let ends = drained || owner.ordered_to_end;
        if !ends || (!self.calm && self.random.percent(40)) {
            return Ok(());
        }
        owner.partition.end();
        let pending = owner.partition.pending();
        let ended = Ended {
            member,
            last_words: self.point(log)?,
            drained,
            pending,
        };
        self.lose(log);
        self.ended[log] = Some(ended);
        Ok(())
    }

    /// What the owner has reported last.
    fn point(&self, log: usize) -> Checked<Option<Commit>> {
        let max_bytes = match self.calm {
            true => MAX_METADATA_BYTES,
            false => self.max_metadata_bytes,
        };
        match (&self.ended[log], &self.owners[log]) {
            (Some(ended), _) => Ok(ended.last_words.clone()),
            (None, Some(owner)) => owner.commit(&self.broker.logs[log], max_bytes),
            (None, None) => Ok(None),
        }
    }

    fn answer_last_commit(&mut self, member: usize) -> Checked<()> {
        let chance = if self.calm { 0 } else { self.random.below(100) };
        let refusals = [Refusal::Passing, Refusal::Rebalancing, Refusal::NotAMember];
        let result = match chance {
            0..55 => Ok(()),
            55..70 => Err(self.random.pick(&refusals)),
            _ => return Ok(()),
        };
        while self.commit_arrives(member, result)? {}
        Ok(())
    }

    fn carry_out(&mut self, member: usize, order: Order) -> Checked<()> {
        match order {
            Order::Drain { places, .. } => self.drain(&places),
            Order::DrainAll { places, .. } => {
                self.drain(&places);
                if self.fault == Fault::CommitsBeforeTheDrain {
                    self.store_last(member, places.iter().map(log_of).collect())?;
                }
            }
            Order::End { places } => {
                for log in places.iter().map(log_of) {
                    if let Some(owner) = &mut self.owners[log] {
                        owner.ordered_to_end = true;
                        owner.draining = true;
                        owner.partition.drain();
                    }
                }
            }
            Order::Drop { places } => places.iter().map(log_of).for_each(|log| self.lose_now(log)),
            Order::TakeLast { places } => {
                let logs = self.last_ones(member, &places);
                if self.fault != Fault::CommitsBeforeTheDrain
                    && self.fault != Fault::ForgetsTheLastCommit
                {
                    self.store_last(member, logs)?;
                }
            }
            Order::CommitLast { places } => {
                let logs = self.last_ones(member, &places);
                for &log in &logs {
                    self.check_is_ours(member, log)?;
                }
                let has_ended = |log: &usize| self.ended[*log].is_some();
                let complete = places.iter().map(log_of).filter(has_ended).collect();
                let is_sent = self.fault != Fault::ForgetsTheLastCommit;
                let commits = &mut self.members[member].commits;
                commits.begin_last(logs, complete, is_sent, self.now);
            }
            Order::Answer(answer) => self.answer(member, answer)?,
            Order::Close => self.close(member)?,
            Order::ReportRunningOwners { .. } => {
                self.members[member].gave_up_owners = true;
                self.count("an owner that does not end");
            }
            Order::ReportUnanswered(_) => {
                self.members[member].gave_up_commit = true;
                self.count("a last commit without an answer");
            }
        }
        Ok(())
    }

    fn store_last(&mut self, member: usize, logs: Vec<usize>) -> Checked<()> {
        let mut points = Vec::new();
        for log in logs {
            self.check_is_ours(member, log)?;
            let owner = self.owners[log].as_ref();
            let running = owner.is_some_and(|owner| owner.partition.is_marked());
            points.push((log, self.point(log)?, running));
        }
        self.members[member].commits.store_last(points);
        Ok(())
    }

    fn drain(&mut self, places: &[TopicPartition]) {
        for log in places.iter().map(log_of) {
            if let Some(owner) = &mut self.owners[log] {
                owner.draining = true;
                owner.partition.drain();
            }
        }
    }

    fn last_ones(&self, member: usize, places: &[TopicPartition]) -> Vec<usize> {
        let mut logs: Vec<_> = places.iter().map(log_of).collect();
        if self.fault == Fault::CommitsALostAssignment {
            let it = &self.members[member];
            logs.extend(it.owed.iter().filter(|&&log| it.lost[log]));
        }
        logs
    }

    /// A member that has lost a partition says nothing more about it.
    fn check_is_ours(&self, member: usize, log: usize) -> Checked<()> {
        let it = &self.members[member];
        let is_clear = match it.heard {
            _ if !it.speaks_of_loss => true,
            heard => heard.is_some_and(|heard| self.now.since(heard) >= LOSS_REPORTED),
        };
        ensure!(
            !(it.lost[log] && is_clear),
            "G7: log {log} is committed by a member that has lost it"
        );
        Ok(())
    }

    fn answer(&mut self, member: usize, answer: Answer) -> Checked<()> {
        let it = &mut self.members[member];
        let mut owed: Vec<_> = std::mem::take(&mut it.owed)
            .into_iter()
            .map(place)
            .collect();
        owed.sort();
        ensure!(
            answer.places == owed,
            "G8: the answer is about {:?} instead of {owed:?}",
            answer.places
        );
        let all_lost = answer.outcome == Outcome::Lost;
        ensure!(
            !all_lost || answer.places.iter().all(|place| it.lost[log_of(place)]),
            "G8: partitions are dropped that were not lost"
        );
        (it.speaks_of_loss, it.heard) = (false, None);
        if !all_lost {
            self.check_last_commit(member)?;
        }
        self.count(match answer.outcome {
            Outcome::Drained => "hand-over after a drain",
            Outcome::Deadline => "hand-over at the deadline",
            Outcome::Lost => "hand-over of what was lost meanwhile",
        });
        self.check_is_about_all(member, &answer.places)?;
        for log in answer.places.iter().map(log_of) {
            let is_drained = answer.outcome == Outcome::Drained;
            self.give_back(member, log, is_drained)?;
        }
        // A revoke can come when a shutdown's is over.
        if !self.members[member].hand_over.is_shutting_down() {
            self.members[member].commits.forget_last();
            self.members[member].gave_up_owners = false;
        }
        if all_lost {
            LOGS.into_iter()
                .filter(|&log| self.member_of(log) == Some(member))
                .collect::<Vec<_>>()
                .into_iter()
                .for_each(|log| self.lose_now(log));
        }
        Ok(())
    }

    /// Nothing is given back before its last commit is over, but in a failure.
    fn check_last_commit(&self, member: usize) -> Checked<()> {
        let it = &self.members[member];
        ensure!(
            it.commits.is_last_over() || it.gave_up_commit || it.has_failed,
            "G8: member {member} gives back without a last commit"
        );
        Ok(())
    }

    /// The last commit of a hand-over is about all that had ended by then.
    fn check_is_about_all(&self, member: usize, places: &[TopicPartition]) -> Checked<()> {
        let it = &self.members[member];
        let Some(complete) = it.commits.taken() else {
            return Ok(());
        };
        if it.hand_over.is_shutting_down() || it.gave_up_owners {
            return Ok(());
        }
        for log in places.iter().map(log_of).filter(|&log| !it.lost[log]) {
            ensure!(
                self.ended[log].is_none() || complete.contains(&log),
                "G8: the last commit is not about log {log}"
            );
        }
        Ok(())
    }

    /// The client closes, and the process begins anew.
    fn close(&mut self, member: usize) -> Checked<()> {
        ensure!(
            self.members[member].owed.is_empty(),
            "G8: the client is closed and owes an answer"
        );
        self.check_last_commit(member)?;
        let is_in_order = !self.members[member].has_failed;
        self.count(if is_in_order {
            "a shutdown"
        } else {
            "an end by a failure"
        });
        for log in LOGS {
            if self.member_of(log) == Some(member) {
                let is_drained = is_in_order && !self.members[member].gave_up_owners;
                self.give_back(member, log, is_drained)?;
            }
        }
        self.members[member] = Member::default();
        self.guards[member] = Guard::new(self.guard_settings);
        self.neighbours.forget(member);
        Ok(())
    }

    /// The client lets go of a log, with what is stored for it.
    fn give_back(&mut self, member: usize, log: usize, is_drained: bool) -> Checked<()> {
        if self.member_of(log) != Some(member) {
            return Ok(());
        }
        let it = &mut self.members[member];
        let (stored, is_lost) = (it.commits.unassign(log), it.lost[log]);
        let taken = it.commits.taken();
        let is_taken = taken.is_some_and(|logs| logs.contains(&log));
        if let Some(stored) = stored.filter(|_| !is_lost)
            && (self.calm || self.random.percent(85))
        {
            self.land(log, stored)?;
        }
        // Somebody's word that nothing runs any more is taken, and held against what starts next.
        if let Some(owner) = self.owners[log].as_ref().filter(|_| is_drained) {
            self.left_running
                .extend(owner.running.iter().map(|&(_, offset)| (log, offset)));
        }
        if let Some(ended) = &self.ended[log]
            && ended.drained
            && is_taken
            && !is_lost
            && let Some(last_words) = &ended.last_words
        {
            let committed = self.broker.logs[log].committed.as_ref();
            ensure!(
                committed == Some(last_words),
                "G8: log {log} is handed over with {committed:?} instead of {last_words:?}"
            );
            self.count("a drained hand-over that repeats nothing");
        }
        self.lose_now(log);
        Ok(())
    }

    /// Whatever is left of the log's owner is gone.
    fn lose_now(&mut self, log: usize) {
        if let Some(member) = self.member_of(log) {
            let _ = self.members[member].commits.unassign(log);
        }
        self.lose(log);
        self.ended[log] = None;
    }
}

fn place(log: usize) -> TopicPartition {
    TopicPartition::new(TOPICS[log], 0)
}

fn log_of(place: &TopicPartition) -> usize {
    usize::from(*place.topic == *TOPICS[1])
}
