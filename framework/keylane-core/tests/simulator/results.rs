//! Attempts and writes end: the model foretells what becomes of their records, by its own reading
//! of the policy.

use std::time::Duration;

use keylane_core::{
    ErrorClass, Exhausted, FailedAttempt, Failure, FailureHeaders, HeldBy, InPlace, Moment,
    ParkReason, Publish, PublishRequest, PublishResult, Reason, Settlement, Success, Verdict,
};

use crate::broker::{LogRecord, ORIGIN};
use crate::owner::{Doing, Entry};
use crate::violation::{Checked, ensure};
use crate::world::{Fault, World};

/// What is expected of a failed attempt.
#[derive(Debug)]
enum Expected {
    Waiting,
    RetryTopic,
    DeadLetter,
    Parked(ParkReason),
    Stop(Reason),
}

impl World {
    pub(crate) fn finish_attempt(&mut self, log: usize) -> Checked<bool> {
        let Some(owner) = &mut self.owners[log] else {
            return Ok(false);
        };
        let (plans, calm) = (&self.plans, self.calm || self.random.percent(3));
        let may_end: Vec<usize> = (owner.running.iter().enumerate())
            .filter(|(_, (_, offset))| {
                owner.unsettled.get(offset).is_none_or(|entry| {
                    calm || entry.blocker || !plans[entry.record.identity].hangs
                })
            })
            .map(|(index, _)| index)
            .collect();
        if may_end.is_empty() {
            return Ok(false);
        }
        *self
            .corners
            .entry(if self.calm {
                "an attempt in the calm"
            } else {
                "an attempt in the storm"
            })
            .or_default() += 1;
        let index = may_end[self.random.index(may_end.len())];
        let (ticket, offset) = owner.running.swap_remove(index);
        let entry = *owner
            .unsettled
            .get(&offset)
            .ok_or("a record that runs is pending")?;
        let identity = entry.record.identity;
        ensure!(
            owner.partition.record(ticket) == Some(&identity),
            "the record of {offset} is another"
        );
        let result = match entry.blocker && self.random.percent(80) {
            // Dropped; else it was quicker.
            true => Err(Failure::Panicked),
            false => self.plans[identity].act(self.attempts[identity], &mut self.random),
        };
        match result {
            Ok(success) => {
                let outcome = match success {
                    Success::Done => Settlement::Done,
                    Success::Skipped => Settlement::Skipped,
                };
                let verdict = owner.partition.succeed(ticket, success);
                check_settled(&verdict, outcome, offset, &entry)?;
                owner.settle(offset);
                owner
                    .partition
                    .report_to_guard(&mut self.guards[owner.member].real, self.now);
                self.broker.logs[log].settle(offset, outcome);
            }
            Err(failure) => self.fail_attempt(log, ticket, offset, entry, failure)?,
        }
        // Any end may be reported once more, now or much later.
        self.late.push((log, ticket));
        Ok(true)
    }

    fn fail_attempt(
        &mut self,
        log: usize,
        ticket: keylane_core::Ticket,
        offset: i64,
        entry: Entry,
        failure: Failure,
    ) -> Checked<()> {
        let entropy = self.random.next();
        let class = ErrorClass::new(self.random.below(2));
        let attempt = FailedAttempt {
            class,
            ..failure.into()
        };
        let now = self.now;
        let is_unavailable = matches!(failure, Failure::Unavailable { .. });
        let mut entry = entry;
        if !is_unavailable {
            entry.counted += 1;
            if entry.attempts_here > 1 || entry.record.rounds > 0 {
                entry.retried_for += now.since(entry.started);
            }
        }
        if self.is_to_be_skipped(log, offset) {
            return self.skip_at_failure(log, ticket, entry, failure);
        }
        let expected = self.expect(entry, failure);
        let Some(owner) = &mut self.owners[log] else {
            return Ok(());
        };
        let guard = &mut self.guards[owner.member].real;
        let verdict = owner.partition.fail(ticket, attempt, entropy, now, guard);
        let may_hold = !guard.holds_nothing(now) && !entry.blocker && !entry.doomed;
        entry.guarded |= may_hold;
        let is_held = matches!(verdict, Verdict::Waiting { held: Some(_), .. });
        entry.waited_for_others |= is_held || is_unavailable;
        let longest = Duration::from_millis(3_000);
        let corner = match (&expected, failure, &verdict) {
            (
                ..,
                Verdict::Waiting {
                    held: Some(HeldBy::Outage),
                    ..
                },
            ) => "held in a total outage",
            (
                ..,
                Verdict::Waiting {
                    held: Some(HeldBy::Class(_)),
                    ..
                },
            ) => "held in a partial outage",
            (
                ..,
                Verdict::Waiting {
                    held: Some(HeldBy::Deployment),
                    ..
                },
            ) => "held in a bad deployment",
            (
                ..,
                Verdict::Waiting {
                    held: Some(HeldBy::Unavailable),
                    ..
                },
            ) => "held for what is unavailable",
            (Expected::Stop(_), ..) => "a stop",
            (Expected::RetryTopic, ..) => "a round through the retry topic",
            (Expected::Waiting, Failure::TimedOut, _) => "a time-out retried in place",
            (Expected::DeadLetter, ..) if self.settings[ORIGIN].retry.for_at_least.is_some() => {
                "an end by time"
            }
            _ => "another failure",
        };
        *self.corners.entry(corner).or_default() += 1;
        let has_topic = self.settings[ORIGIN].retry.topic.is_some();
        let stops = matches!(verdict, Verdict::Stop { .. });
        let doing = match (&expected, &verdict) {
            (_, Verdict::Waiting { delay, held }) => {
                let by_guard = !matches!(held, None | Some(HeldBy::Unavailable));
                ensure!(
                    !by_guard || may_hold,
                    "{offset} is held by {held:?}, and the guard holds nothing"
                );
                let foretold = matches!(expected, Expected::Waiting) && !by_guard;
                ensure!(
                    foretold || entry.guarded,
                    "{offset}: {verdict:?} instead of {expected:?}"
                );
                ensure!(*delay <= longest, "G6: {offset} waits {delay:?}");
                if !is_unavailable {
                    entry.retried_for += *delay;
                }
                entry.wait_counts = !is_unavailable;
                Doing::WaitingUntil(now + *delay)
            }
            (Expected::RetryTopic | Expected::DeadLetter, Verdict::Publishing) => Doing::ToPublish,
            (Expected::Waiting, Verdict::Publishing) if entry.guarded => Doing::ToPublish,
            // It was retried again, and has come to the retry topic again.
            (_, Verdict::Publishing) if entry.guarded && has_topic => Doing::ToPublish,
            (Expected::Parked(expected), Verdict::Parked { reason }) if expected == reason => {
                Doing::Parked
            }
            (Expected::Waiting | Expected::RetryTopic, Verdict::Parked { .. }) if entry.guarded => {
                Doing::Parked
            }
            (
                Expected::Stop(expected),
                Verdict::Stop {
                    reason,
                    offset: stopped,
                },
            ) => {
                ensure!(
                    reason == expected && stopped.get() == offset,
                    "{offset}: {verdict:?} instead of {expected:?}"
                );
                owner.stopped = true;
                Doing::Parked
            }
            (_, Verdict::Stop { .. }) if entry.guarded => {
                owner.stopped = true;
                Doing::Parked
            }
            _ => {
                return Err(format!(
                    "{offset} failed with {failure:?}: {verdict:?} instead of {expected:?}"
                ));
            }
        };
        if let Some(kept) = owner.unsettled.get_mut(&offset) {
            *kept = Entry { doing, ..entry };
        }
        // A delay of nothing ends with the next tick, which a shell makes when a deadline is not in
        // the future.
        if owner
            .partition
            .next_deadline()
            .is_some_and(|deadline| deadline <= now)
        {
            owner.tick(now);
        }
        if stops {
            self.repair(entry.record.identity);
        }
        Ok(())
    }

    /// The failure policy, written a second time, without the guard's decisions.
    fn expect(&self, entry: Entry, failure: Failure) -> Expected {
        if entry.blocker || entry.doomed {
            return Expected::DeadLetter;
        }
        let policy = self.policy();
        let reason = match failure {
            Failure::Unavailable { .. } => return Expected::Waiting,
            Failure::Fatal => Reason::Fatal,
            Failure::Undecodable => Reason::Undecodable,
            Failure::Panicked => Reason::Panicked,
            Failure::TimedOut => Reason::TimedOut,
            _ => Reason::Exhausted,
        };
        let its_own_fault = matches!(failure, Failure::Fatal | Failure::Undecodable);
        if !its_own_fault {
            let in_place = match policy.in_place {
                InPlace::Forever => return Expected::Waiting,
                InPlace::Times(times) => entry.counted <= times,
            };
            let by_topic = policy.topic.filter(|_| !entry.too_large_for_retry);
            let has_rounds = by_topic.is_some_and(|topic| entry.record.rounds < topic.rounds);
            match policy.for_at_least {
                Some(time) if entry.retried_for >= time && entry.counted < 3 => {
                    return Expected::Waiting;
                }
                Some(time) if entry.retried_for >= time && by_topic.is_some() && in_place => {
                    return Expected::Waiting;
                }
                Some(time) if entry.retried_for >= time => {}
                Some(_) if in_place || by_topic.is_none() => return Expected::Waiting,
                Some(_) => return Expected::RetryTopic,
                None if in_place => return Expected::Waiting,
                None if has_rounds => return Expected::RetryTopic,
                _ => {}
            }
        }
        match (
            policy.on.of(reason).unwrap_or(policy.on_exhausted),
            policy.dead_letter_topic,
        ) {
            (Exhausted::Park, _) => Expected::Parked(ParkReason::Policy(reason)),
            (Exhausted::Stop, _) => Expected::Stop(reason),
            (_, false) if failure == Failure::Undecodable => {
                Expected::Parked(ParkReason::NoDeadLetterTopic)
            }
            (_, false) => Expected::Waiting,
            (_, true) => Expected::DeadLetter,
        }
    }

    pub(crate) fn take_write(&mut self, log: usize) -> Checked<bool> {
        let Some(owner) = &mut self.owners[log] else {
            return Ok(false);
        };
        let expected = owner
            .unsettled
            .values()
            .filter(|entry| entry.doing == Doing::ToPublish)
            .count();
        let Some(request) = owner.partition.next_publish() else {
            ensure!(
                expected == 0,
                "G3: {expected} writes are due and not requested"
            );
            return Ok(false);
        };
        let offset = request.offset.get();
        let Some(entry) = owner.unsettled.get_mut(&offset) else {
            return Err(format!("{offset} is to be written but not pending"));
        };
        ensure!(
            entry.doing == Doing::ToPublish,
            "{offset} is to be written but is {entry:?}"
        );
        entry.doing = Doing::Publishing;
        let attempts = entry.record.attempts + entry.attempts_here;
        ensure!(
            request.attempts == attempts,
            "{offset} is written with {} attempts, not {attempts}",
            request.attempts
        );
        ensure!(
            request.headers == entry.headers,
            "{offset} is written with {:?}: {entry:?}",
            request.headers
        );
        if let Publish::Retry { round, delay } = request.publish {
            ensure!(
                !entry.too_large_for_retry,
                "{offset} is to go through the retry topic, where it does not fit"
            );
            let retried_for = entry.retried_for + delay;
            ensure!(
                entry.guarded || request.retried_for == retried_for,
                "{offset} is written with a retry time of {:?}, not {retried_for:?}",
                request.retried_for
            );
            ensure!(
                round == entry.record.rounds + 1,
                "{offset} is written for round {round}: {entry:?}"
            );
        }
        owner.writes.push(request);
        self.check_blocker_write(log, offset, request.publish)?;
        Ok(true)
    }

    pub(crate) fn finish_write(&mut self, log: usize) -> Checked<bool> {
        let Some(owner) = &mut self.owners[log] else {
            return Ok(false);
        };
        if owner.writes.is_empty() {
            return Ok(false);
        }
        let index = self.random.index(owner.writes.len());
        let request = owner.writes.swap_remove(index);
        let offset = request.offset.get();
        let entry = *owner
            .unsettled
            .get(&offset)
            .ok_or("a record that is written is pending")?;
        let mut result = match self.random.below(10) {
            // Too large comes first, as it does at the client.
            _ if self.plans[entry.record.identity].is_too_large(&request) => {
                PublishResult::TooLarge
            }
            _ if self.plans[entry.record.identity].unwritable => PublishResult::Refused,
            0 => PublishResult::Failed,
            1..=2 if !self.calm => PublishResult::Failed,
            _ => PublishResult::Acknowledged,
        };
        // A write that failed may have arrived all the same.
        if result == PublishResult::Acknowledged
            || (result == PublishResult::Failed && self.random.percent(30))
        {
            self.store(log, request);
        }
        let acknowledged = result == PublishResult::Acknowledged;
        if self.fault == Fault::CountsFailedWritesAsAcknowledged && result == PublishResult::Failed
        {
            result = PublishResult::Acknowledged;
        }
        let entropy = self.random.next();
        let Some(owner) = &mut self.owners[log] else {
            return Ok(false);
        };
        let is_skipped = owner.is_skipped(offset);
        let verdict = owner
            .partition
            .publish_finished(request.ticket, result, entropy, self.now);
        let doing = match (result, &verdict) {
            (PublishResult::Acknowledged, Verdict::Settled { .. }) => {
                let outcome = match request.publish {
                    Publish::Retry { .. } => Settlement::Retried,
                    Publish::DeadLetter { .. } => Settlement::DeadLettered,
                };
                check_settled(&verdict, outcome, offset, &entry)?;
                owner.settle(offset);
                if acknowledged {
                    self.broker.logs[log].settle(offset, outcome);
                }
                Doing::Queued
            }
            (_, Verdict::Settled { .. }) if is_skipped => {
                check_settled(&verdict, Settlement::SkippedByOperator, offset, &entry)?;
                owner.settle(offset);
                self.was_skipped(log, entry.record);
                self.count("a skip at the end of a write");
                self.late.push((log, request.ticket));
                return Ok(true);
            }
            _ if is_skipped => return Err(format!("G12: {offset} is to be skipped: {verdict:?}")),
            (PublishResult::Failed, Verdict::Waiting { delay, held: None }) => {
                *self.corners.entry("a write tried again").or_default() += 1;
                ensure!(
                    *delay <= Duration::from_millis(480),
                    "G6: the write of {offset} waits {delay:?}"
                );
                Doing::PublishWaitingUntil(self.now + *delay)
            }
            (
                PublishResult::Refused,
                Verdict::Parked {
                    reason: ParkReason::Refused,
                },
            ) => Doing::Parked,
            (PublishResult::TooLarge, verdict) => {
                let (doing, corner) = too_large(&entry, &request, verdict, self.now)?;
                *self.corners.entry(corner).or_default() += 1;
                doing
            }
            _ => return Err(format!("the write of {offset} is {result:?}: {verdict:?}")),
        };
        if let Some(entry) = owner.unsettled.get_mut(&offset) {
            entry.doing = doing;
            entry.refused = doing == Doing::Parked;
            if result == PublishResult::TooLarge {
                if let Publish::Retry { delay, .. } = request.publish {
                    entry.too_large_for_retry = true;
                    // It waits in place for as long as the round would have taken.
                    entry.retried_for += delay;
                    entry.wait_counts = true;
                }
                entry.headers = match request.publish {
                    Publish::DeadLetter { .. } => {
                        request.headers.fewer().unwrap_or(request.headers)
                    }
                    Publish::Retry { .. } => entry.headers,
                };
            }
        }
        self.late.push((log, request.ticket));
        Ok(true)
    }

    /// The broker takes a write in.
    pub(crate) fn store(&mut self, log: usize, request: PublishRequest) {
        let Some(&record) = self.broker.logs[log].get(request.offset.get()) else {
            return;
        };
        let plan = &self.plans[record.identity];
        if plan.unwritable || plan.is_too_large(&request) {
            return;
        }
        match request.publish {
            Publish::Retry { round, delay } => {
                let due = Some(self.millis() + delay.as_millis() as u64);
                self.retry_log_append(LogRecord {
                    due,
                    rounds: round,
                    attempts: request.attempts,
                    retried_for: request.retried_for,
                    ..record
                });
            }
            Publish::DeadLetter { reason } => {
                self.broker
                    .dead_letters
                    .entry(record.identity)
                    .or_default()
                    .push(reason);
            }
        }
    }

    /// A result that comes too late, or twice, or to another epoch: nothing changes by it (G7).
    pub(crate) fn late_result(&mut self) -> Checked<()> {
        if self.late.is_empty() {
            return Ok(());
        }
        let index = self.random.index(self.late.len());
        let (log, ticket) = if self.random.percent(50) {
            self.late[index]
        } else {
            self.late.swap_remove(index)
        };
        let (kind, entropy, now) = (self.random.below(4), self.random.next(), self.now);
        let Some(owner) = &mut self.owners[log] else {
            return Ok(());
        };
        let before = owner.snapshot();
        let guard = &mut self.guards[owner.member].real;
        let verdict = match kind {
            0 => owner.partition.succeed(ticket, Success::Done),
            1 => owner
                .partition
                .fail(ticket, Failure::Fatal.into(), entropy, now, guard),
            2 => owner
                .partition
                .fail(ticket, Failure::Retryable.into(), entropy, now, guard),
            _ => {
                owner
                    .partition
                    .publish_finished(ticket, PublishResult::Acknowledged, entropy, now)
            }
        };
        let corner = if ticket.epoch() == owner.partition.epoch() {
            "a stale ticket"
        } else {
            "a ticket of another epoch"
        };
        *self.corners.entry(corner).or_default() += 1;
        ensure!(
            verdict == Verdict::Stale,
            "G7: a late result is taken: {verdict:?} ({ticket:?})"
        );
        ensure!(
            owner.snapshot() == before,
            "G7: a late result changes something ({ticket:?})"
        );
        ensure!(
            owner.partition.record(ticket).is_none(),
            "G7: a late ticket still shows a record ({ticket:?})"
        );
        Ok(())
    }
}

/// What becomes of a record that is too large: the retry topic is left out, then headers are.
fn too_large(
    entry: &Entry,
    request: &PublishRequest,
    verdict: &Verdict<usize>,
    now: Moment,
) -> Checked<(Doing, &'static str)> {
    match (request.publish, request.headers, verdict) {
        (
            Publish::Retry { delay, .. },
            _,
            Verdict::Waiting {
                delay: waits,
                held: None,
            },
        ) if *waits == delay => Ok((
            Doing::WaitingUntil(now + delay),
            "too large for the retry topic",
        )),
        (
            Publish::DeadLetter { .. },
            FailureHeaders::Fewest,
            Verdict::Parked {
                reason: ParkReason::TooLarge,
            },
        ) => Ok((Doing::Parked, "too large with the fewest headers")),
        (
            Publish::DeadLetter { .. },
            FailureHeaders::All | FailureHeaders::WithoutError,
            Verdict::Publishing,
        ) => Ok((Doing::ToPublish, "a dead letter with fewer headers")),
        _ => Err(format!(
            "{entry:?} is too large for {request:?}: {verdict:?}"
        )),
    }
}

pub(crate) fn check_settled(
    verdict: &Verdict<usize>,
    outcome: Settlement,
    offset: i64,
    entry: &Entry,
) -> Checked<()> {
    let expected = Verdict::Settled {
        outcome,
        offset: keylane_core::Offset::new(offset),
        attempts: entry.record.attempts + entry.attempts_here,
        record: entry.record.identity,
    };
    ensure!(
        *verdict == expected,
        "{offset}: {verdict:?} instead of {expected:?}"
    );
    Ok(())
}
