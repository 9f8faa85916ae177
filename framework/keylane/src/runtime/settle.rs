//! From outcomes to the core, and from its verdicts to logs and metrics.

use std::sync::MutexGuard;
use std::time::Duration;

use keylane_core::{
    Delivered, Delivery, FailedAttempt, Failure, Moment, Offset, OutageGuard, Publish,
    PublishResult, Reason, RetryTier, Ruling, Settlement, Success, Ticket, Verdict, Wait,
};
use rdkafka::error::RDKafkaErrorCode as Code;

use super::attempts::AttemptOutcome;
use super::given_up::Ended;
use super::inbox::Written;
use super::owner::{Held, Owner};
use super::shared::Runtime;
use crate::Record;
use crate::dead_letter::{FailureHistory, MAX_ERROR_BYTES, bounded_text};
use crate::metrics::{ProduceFailure, ProduceTarget, RetryPlace};
use crate::processing::Cause;
use crate::producer::TopicTarget;
use crate::producer::write_error::{WriteError, WriteErrorKind, WriteFailure};
use crate::status::{SubscriptionError, TroubleKind, TroublePlace};
use crate::support::clock;

impl Owner {
    /// Hands one delivered record to the core.
    pub(super) fn deliver(&mut self, record: Record, now: Moment) {
        let bytes = record.size();
        let ruling = self.rule(&record, now);
        if ruling != Ruling::Process {
            return self.deliver_foreign(record, ruling, now);
        }
        let (rounds, attempts, retried_for) =
            record.retry_state().map_or((0, 0, Duration::ZERO), |it| {
                (it.round, it.attempts, it.retried_for)
            });
        let due = record.due_millis().and_then(|due| self.due_moment(due));
        if let Some(due) = due
            && rounds == 0
        {
            self.metrics
                .retry_wait(RetryTier::NotBefore, due.since(now));
        }
        let lane = record.key().map(|key| self.runtime.lane(key));
        self.key_counts.delivered(&self.runtime, lane, &record);
        let delivery = Delivery {
            offset: keylane_core::Offset::new(record.offset()),
            lane,
            bytes,
            due,
            rounds,
            attempts,
            retried_for,
            record: Held {
                record,
                failure: None,
            },
        };
        match self.core.deliver(delivery, now) {
            Delivered::Queued => {}
            Delivered::Repeated => {
                self.metrics.repeated_deliveries(1);
                self.release(bytes);
            }
            Delivered::AlreadySettled | Delivered::Foreign => {
                self.release(bytes);
            }
        }
    }

    /// Wall-clock due time to the owner's monotonic one; `None` if it has passed. Both clocks are
    /// read together, the wall clock first: the turn may have begun long ago, and nothing may be
    /// due too early.
    fn due_moment(&self, due_millis: i64) -> Option<Moment> {
        let ahead = u64::try_from(due_millis.saturating_sub(clock::unix_millis()))
            .ok()
            .filter(|millis| *millis > 0)?;
        Some(self.runtime.moment(clock::now()) + std::time::Duration::from_millis(ahead))
    }

    /// An attempt has ended.
    pub(super) fn settle_attempt(&mut self, ticket: Ticket, outcome: AttemptOutcome, now: Moment) {
        self.core.tell(now);
        let observed = self.observed(ticket);
        if let (Some(observed), Some(observer)) = (&observed, &self.runtime.observer) {
            observer.attempted(observed, outcome.label(), outcome.text().map(str::to_owned));
        }
        let verdict = match outcome {
            AttemptOutcome::Done => self.core.succeed(ticket, Success::Done),
            AttemptOutcome::Skipped { reason } => {
                tracing::debug!(topic = %self.topic, partition = self.partition_id, %reason, "record skipped");
                self.core.succeed(ticket, Success::Skipped)
            }
            AttemptOutcome::Failed {
                failure,
                error,
                cause,
            } => {
                self.note_failure(ticket, failure, &error);
                // The log line of a parked record says these.
                let ended = self.ended(ticket);
                let runtime = self.runtime.clone();
                let attempt = runtime.failed(failure, &cause);
                let verdict = self.core.fail(
                    ticket,
                    attempt,
                    fastrand::u64(..),
                    now,
                    &mut runtime.guard(),
                );
                if let Verdict::Parked { reason } = verdict {
                    self.report_parked(reason, ended, &bounded_text(&error, MAX_ERROR_BYTES));
                }
                verdict
            }
        };
        self.observe(observed, &verdict);
        self.carry_out(None, verdict);
    }

    /// A write to the retry or dead-letter topic was answered.
    pub(super) fn settle_written(&mut self, Written { ticket, result }: Written, now: Moment) {
        let writing = self.core.writing(ticket);
        let target = target(writing);
        let answer = match &result {
            Ok(_) => PublishResult::Acknowledged,
            Err(error) => match error.kind() {
                WriteErrorKind::Transient => PublishResult::Failed,
                WriteErrorKind::Refused => PublishResult::Refused,
                WriteErrorKind::TooLarge => PublishResult::TooLarge,
            },
        };
        let (ended, observed) = (self.ended(ticket), self.observed(ticket));
        let verdict = self
            .core
            .publish_finished(ticket, answer, fastrand::u64(..), now);
        match &result {
            Ok(_) => self.note_written(target),
            Err(error) => self.note_failed_write(error, target, ended, &verdict),
        }
        self.observe(observed, &verdict);
        match (&verdict, writing, result) {
            // The write is repeated, not the attempt: no retry to be counted.
            (Verdict::Waiting { delay, .. }, ..) if answer == PublishResult::Failed => {
                return self.metrics.retry_wait(RetryTier::Write, *delay);
            }
            (Verdict::Parked { reason }, _, Err(error)) => {
                self.report_parked(*reason, ended, &error.to_string())
            }
            (
                Verdict::Settled {
                    outcome: Settlement::DeadLettered,
                    offset,
                    attempts,
                    record,
                },
                Some(Publish::DeadLetter { reason }),
                Ok(place),
            ) => self.report_dead_letter(
                record,
                reason,
                Ended {
                    offset: offset.get(),
                    attempts: *attempts,
                },
                place,
            ),
            _ => {}
        }
        self.carry_out(writing, verdict);
    }

    fn note_failed_write(
        &self,
        error: &WriteError,
        target: ProduceTarget,
        ended: Option<Ended>,
        verdict: &Verdict<Held>,
    ) {
        self.note_refused_write(error, target);
        let (kind, next) = match (error.kind(), verdict) {
            // Its own line says so.
            (_, Verdict::Parked { .. }) => {
                return self
                    .runtime
                    .metrics
                    .produce_failed(target, ProduceFailure::Refused);
            }
            (WriteErrorKind::TooLarge, Verdict::Waiting { .. }) => (
                ProduceFailure::TooLarge,
                "the record is retried in place, and not through the retry topic",
            ),
            (WriteErrorKind::TooLarge, Verdict::Publishing) => (
                ProduceFailure::TooLarge,
                "the dead letter is written with fewer headers",
            ),
            (WriteErrorKind::Transient, _) => {
                (ProduceFailure::Transient, "the write is tried again")
            }
            _ => (ProduceFailure::Refused, "nothing: the answer came too late"),
        };
        self.runtime.metrics.produce_failed(target, kind);
        if let Some(left_out) = self.runtime.failed_writes.due(clock::now()) {
            let offset = ended.map(|ended| ended.offset);
            tracing::warn!(
                topic = %self.topic, partition = self.partition_id, offset, %error, ?kind, ?target, next, left_out,
                "a write to the retry or dead-letter topic failed; the record stays unsettled"
            );
        }
    }

    /// What an operator has to mend shows as trouble until a write to the same topic is
    /// acknowledged.
    fn note_refused_write(&self, error: &WriteError, target: ProduceTarget) {
        let WriteFailure::Kafka { code } = &error.failure else {
            return;
        };
        let kind = match code {
            Code::UnknownPartition | Code::UnknownTopic | Code::UnknownTopicOrPartition => {
                self.doubt_partitions(target);
                TroubleKind::MissingTopic
            }
            // The client waits for a topic that is gone, and says no more when the time of its
            // writes is up.
            Code::MessageTimedOut => return self.doubt_partitions(target),
            Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => {
                TroubleKind::Authorization
            }
            Code::SaslAuthenticationFailed | Code::Authentication => TroubleKind::Authentication,
            _ => return,
        };
        let place = TroublePlace::WritesTo(error.topic.to_string());
        self.runtime
            .control
            .troubles
            .note(kind, place, &error.to_string());
    }

    /// Another partition count, or that the topic is gone, would explain what a write says.
    fn doubt_partitions(&self, target: ProduceTarget) {
        if let Some(target) = self.target(target) {
            target.partitions.doubt();
            target.refresh(
                &self.runtime.side_config,
                &self.runtime.control,
                clock::now(),
            );
        }
    }

    fn note_written(&self, target: ProduceTarget) {
        let troubles = &self.runtime.control.troubles;
        if !troubles.any() {
            return;
        }
        if let Some(target) = self.target(target) {
            troubles.passed(&TroublePlace::WritesTo(target.name.to_string()));
        }
    }

    fn target(&self, target: ProduceTarget) -> Option<&TopicTarget> {
        match target {
            ProduceTarget::Retry => self.runtime.retry_topic.as_ref(),
            ProduceTarget::DeadLetter => self.runtime.dead_letter_topic.as_ref(),
        }
    }

    pub(super) fn carry_out(&mut self, written: Option<Publish>, verdict: Verdict<Held>) {
        match verdict {
            Verdict::Settled {
                outcome, record, ..
            } => {
                match outcome {
                    Settlement::Done | Settlement::Skipped => {}
                    Settlement::Retried => {
                        self.metrics.retried(RetryPlace::Topic, 1);
                        if let Some(Publish::Retry { round, delay }) = written {
                            self.metrics.retry_wait(Wait::Topic { round }.into(), delay);
                        }
                    }
                    Settlement::DeadLettered => {
                        let reason = match written {
                            Some(Publish::DeadLetter { reason }) => reason,
                            _ => Reason::Exhausted,
                        };
                        self.metrics.dead_lettered(reason, 1);
                    }
                    Settlement::Foreign => self.report_foreign(&record.record),
                }
                self.metrics.settled(outcome, 1);
                self.release(record.record.size());
            }
            Verdict::Waiting { delay, held } => {
                self.metrics.retried(RetryPlace::InPlace, 1);
                self.metrics.retry_wait(RetryTier::InPlace, delay);
                if held.is_some() {
                    self.metrics.held(1);
                }
            }
            Verdict::Publishing | Verdict::Parked { .. } | Verdict::Stale => {}
            Verdict::Stop { reason, offset } => {
                self.runtime.control.stop(self.exhausted(reason, offset));
            }
        }
    }

    pub(super) fn exhausted(&self, reason: Reason, offset: Offset) -> SubscriptionError {
        SubscriptionError::RetriesExhausted {
            topic: self.topic.to_string(),
            partition: self.partition_id,
            offset: offset.get(),
            reason: reason.as_str(),
        }
    }

    /// To be asked before the core has the result: the ticket is used up by it.
    fn ended(&self, ticket: Ticket) -> Option<Ended> {
        let (held, attempts) = (self.core.record(ticket)?, self.core.attempts(ticket)?);
        Some(Ended {
            offset: held.record.offset(),
            attempts,
        })
    }

    fn note_failure(&mut self, ticket: Ticket, failure: Failure, error: &str) {
        let Some(held) = self.core.record_mut(ticket) else {
            return;
        };
        let now = clock::unix_millis();
        let first = held
            .failure
            .as_ref()
            .map(|failure| failure.first_failure_millis)
            .or_else(|| {
                held.record
                    .retry_state()
                    .and_then(|retry| retry.first_failure_by(now))
            })
            .unwrap_or(now);
        let offset = held.record.offset();
        if let Some(left_out) = self.failed_attempts.due(clock::now()) {
            tracing::warn!(
                topic = %self.topic, partition = self.partition_id, offset, ?failure, error, left_out,
                "attempt failed"
            );
        } else {
            tracing::debug!(topic = %self.topic, partition = self.partition_id, offset, ?failure, error, "attempt failed");
        }
        held.failure = Some(Box::new(FailureHistory {
            attempts: 0,
            first_failure_millis: first,
            last_failure_millis: now,
            reason: "",
            // It may be kept for as long as the record is pending, so it is cut now and not when it
            // is written.
            error: bounded_text(error, MAX_ERROR_BYTES),
        }));
    }

    pub(super) fn release(&mut self, bytes: usize) {
        self.released_records += 1;
        self.released_bytes += bytes as u64;
    }
}

impl Runtime {
    pub(super) fn guard(&self) -> MutexGuard<'_, OutageGuard> {
        self.outages.guard()
    }

    fn failed(&self, failure: Failure, cause: &Cause) -> FailedAttempt {
        let names = self.outages.names();
        let class = names.class(cause.class());
        let place = cause.place().map(|place| names.place(place));
        FailedAttempt {
            failure,
            class,
            place,
        }
    }

    /// The lane of a key: a hash is enough. Two keys of one hash would share a lane, which keeps
    /// their order and costs them some concurrency; with a random 64-bit hash that is one pair in
    /// billions, and nobody can arrange for it.
    pub(super) fn lane(&self, key: &[u8]) -> u64 {
        use std::hash::BuildHasher;
        self.lane_hash.hash_one(key)
    }
}

fn target(writing: Option<Publish>) -> ProduceTarget {
    match writing {
        Some(Publish::Retry { .. }) => ProduceTarget::Retry,
        _ => ProduceTarget::DeadLetter,
    }
}
