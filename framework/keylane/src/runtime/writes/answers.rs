//! What becomes of a record whose write was answered.

use keylane_core::{Moment, Offset, Publish, PublishResult, RetryTier, Settlement, Verdict};
use rdkafka::error::RDKafkaErrorCode as Code;

use super::history::last_history;
use crate::metrics::{ProduceFailure, ProduceTarget};
use crate::producer::TopicTarget;
use crate::producer::write_error::{WriteError, WriteErrorKind, WriteFailure};
use crate::runtime::inbox::Written;
use crate::runtime::owned::OwnedPartition;
use crate::runtime::pending_record::PendingRecord;
use crate::runtime::report::{Ended, observe, observed, report_dead_letter, report_parked};
use crate::runtime::verdicts::carry_out;
use crate::status::{TroubleKind, TroublePlace};
use crate::support::clock;

/// A write to the retry or dead-letter topic was answered.
pub(crate) fn settle_written(
    owned: &mut OwnedPartition,
    Written { ticket, result }: Written,
    now: Moment,
) {
    let writing = owned.core.writing(ticket);
    let target = target(writing);
    let answer = match &result {
        Ok(_) => PublishResult::Acknowledged,
        Err(error) => match error.kind() {
            WriteErrorKind::Transient => PublishResult::Failed,
            WriteErrorKind::Refused => PublishResult::Refused,
            WriteErrorKind::TooLarge => PublishResult::TooLarge,
        },
    };
    let (ended, observed) = (Ended::of(owned, ticket), observed(owned, ticket));
    let crashes = ended.map_or(0, |it| owned.core.crashes(Offset::new(it.offset)));
    let verdict = owned
        .core
        .publish_finished(ticket, answer, fastrand::u64(..), now);
    match &result {
        Ok(_) => note_written(owned, target),
        Err(error) => note_failed_write(owned, error, target, ended, &verdict),
    }
    observe(owned, observed, &verdict);
    match (&verdict, writing, result) {
        // The write is repeated, not the attempt: no retry to be counted.
        (Verdict::Waiting { delay, .. }, ..) if answer == PublishResult::Failed => {
            return owned.metrics.retry_wait(RetryTier::Write, *delay);
        }
        (Verdict::Parked { reason }, _, Err(error)) => {
            report_parked(owned, *reason, ended, &error.to_string())
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
        ) => {
            let order = owned.dead_letter_orders.get(offset);
            let history = last_history(record, *attempts, reason, crashes, order);
            report_dead_letter(owned, record, offset.get(), &history, place);
        }
        _ => {}
    }
    carry_out(owned, writing, verdict);
}

fn note_failed_write(
    owned: &OwnedPartition,
    error: &WriteError,
    target: ProduceTarget,
    ended: Option<Ended>,
    verdict: &Verdict<PendingRecord>,
) {
    note_refused_write(owned, error, target);
    let (kind, next) = match (error.kind(), verdict) {
        // A parked record has a log line of its own.
        (_, Verdict::Parked { .. }) => {
            return owned
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
        // So has one that an operator skips.
        (kind, Verdict::Settled { .. }) => {
            let kind = match kind {
                WriteErrorKind::Transient => ProduceFailure::Transient,
                WriteErrorKind::TooLarge => ProduceFailure::TooLarge,
                WriteErrorKind::Refused => ProduceFailure::Refused,
            };
            return owned.runtime.metrics.produce_failed(target, kind);
        }
        (WriteErrorKind::Transient, _) => (ProduceFailure::Transient, "the write is tried again"),
        _ => (ProduceFailure::Refused, "nothing: the answer came too late"),
    };
    owned.runtime.metrics.produce_failed(target, kind);
    if let Some(left_out) = owned.runtime.failed_writes.due(clock::now()) {
        let offset = ended.map(|ended| ended.offset);
        tracing::warn!(
            topic = %owned.source.topic, partition = owned.source.partition, offset, %error, ?kind, ?target, next, left_out,
            "a write to the retry or dead-letter topic failed; the record stays unsettled"
        );
    }
}

/// What an operator has to mend shows as trouble until a write to the same topic is
/// acknowledged.
fn note_refused_write(owned: &OwnedPartition, error: &WriteError, target: ProduceTarget) {
    let WriteFailure::Kafka { code } = &error.failure else {
        return;
    };
    let kind = match code {
        Code::UnknownPartition | Code::UnknownTopic | Code::UnknownTopicOrPartition => {
            doubt_partitions(owned, target);
            TroubleKind::MissingTopic
        }
        // The client waits for a topic that is gone, and reports only a time-out when the time of
        // its writes is up.
        Code::MessageTimedOut => return doubt_partitions(owned, target),
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => {
            TroubleKind::Authorization
        }
        Code::SaslAuthenticationFailed | Code::Authentication => TroubleKind::Authentication,
        _ => return,
    };
    let place = TroublePlace::WritesTo(error.topic.to_string());
    owned
        .runtime
        .control
        .troubles
        .note(kind, place, &error.to_string());
}

/// A changed partition count, or a missing topic, would explain the write's error.
fn doubt_partitions(owned: &OwnedPartition, target: ProduceTarget) {
    if let Some(target) = topic_of(owned, target) {
        target.partitions.doubt();
        target.refresh(
            &owned.runtime.side_config,
            &owned.runtime.control,
            clock::now(),
        );
    }
}

fn note_written(owned: &OwnedPartition, target: ProduceTarget) {
    let troubles = &owned.runtime.control.troubles;
    if !troubles.any() {
        return;
    }
    if let Some(target) = topic_of(owned, target) {
        troubles.passed(&TroublePlace::WritesTo(target.name.to_string()));
    }
}

fn topic_of(owned: &OwnedPartition, target: ProduceTarget) -> Option<&TopicTarget> {
    match target {
        ProduceTarget::Retry => owned.runtime.retry_topic.as_ref(),
        ProduceTarget::DeadLetter => owned.runtime.dead_letter_topic.as_ref(),
    }
}

fn target(writing: Option<Publish>) -> ProduceTarget {
    match writing {
        Some(Publish::Retry { .. }) => ProduceTarget::Retry,
        _ => ProduceTarget::DeadLetter,
    }
}
