//! Writes to the retry and dead-letter topics.

use std::sync::Arc;

use keylane_core::{FailureHeaders, Publish, PublishRequest, Reason};

use super::history::{history, poison_history};
use crate::Headers;
use crate::dead_letter::{self, FailureHistory, Round, Writer};
use crate::kafka::topics::map_partition;
use crate::producer::TopicTarget;
use crate::producer::raw::OutgoingRecord;
use crate::producer::write_error::{WriteError, WriteFailure};
use crate::record::Origin;
use crate::runtime::inbox::Written;
use crate::runtime::owned::OwnedPartition;
use crate::runtime::pending_record::PendingRecord;
use crate::support::clock;

/// What an owner keeps of it.
pub(crate) struct Writes {
    membership: Option<Arc<str>>,
}

impl Writes {
    /// `membership`: the assignment, as dead letters name it.
    pub(crate) fn new(membership: Option<Arc<str>>) -> Self {
        Self { membership }
    }

    /// Sends the writes that the core requests. The answer comes back through the inbox.
    ///
    /// It sends nothing for an epoch that is over: the next owner decides again, and a write made
    /// here would be a second copy. What the client has taken already is still written, in order
    /// with the writes of other partitions; its headers name the epoch. It sends nothing for an
    /// epoch that may be over either: see [`keylane_core::Lease`].
    pub(crate) fn send_ready(&self, owned: &mut OwnedPartition) {
        if owned.inbox.is_ended() || !owned.runtime.lease.allows(clock::now()) {
            return;
        }
        while let Some(request) = owned.core.next_publish() {
            let outgoing = self.outgoing(owned, &request);
            let inbox = owned.inbox.clone();
            let ticket = request.ticket;
            match (outgoing, &owned.runtime.writer) {
                (Some(outgoing), Some(writer)) => {
                    let answer = writer.send(outgoing);
                    #[cfg(test)]
                    let topic = owned.source.topic.clone();
                    owned.spawn(async move {
                        #[cfg(test)]
                        crate::support::panics::planted::step("write", &topic);
                        let result = tokio::select! {
                            biased;
                            result = answer => result,
                            // A record refused in a batch is written again alone: not for an epoch
                            // that is over.
                            () = inbox.life().over() => return,
                        };
                        inbox.written(Written { ticket, result });
                    });
                }
                // The core requests writes only to topics that the settings name, and start-up made
                // a producer for those.
                _ => inbox.written(Written {
                    ticket,
                    result: Err(no_producer()),
                }),
            }
        }
    }

    fn outgoing(&self, owned: &OwnedPartition, request: &PublishRequest) -> Option<OutgoingRecord> {
        let pending = owned.core.record(request.ticket)?;
        let (target, reason) = match &request.publish {
            Publish::Retry { .. } => (owned.runtime.retry_topic.as_ref()?, "retryable"),
            Publish::DeadLetter { reason } => {
                (owned.runtime.dead_letter_topic.as_ref()?, reason.as_str())
            }
        };
        target.refresh(
            &owned.runtime.side_config,
            &owned.runtime.control,
            clock::now(),
        );
        let history = match &request.publish {
            Publish::DeadLetter {
                reason: Reason::Poison,
            } => poison_history(
                pending,
                request.attempts,
                owned.core.crashes(request.offset),
            ),
            _ => history(pending, request.attempts, reason),
        };
        let origin = owned.origin_of(pending);
        let headers = match &request.publish {
            Publish::Retry { round, delay } => {
                let due = clock::unix_millis()
                    .saturating_add(i64::try_from(delay.as_millis()).unwrap_or(i64::MAX));
                let retried_for = request.retried_for;
                let round = Round {
                    number: *round,
                    due_millis: due,
                    retried_for,
                };
                self.retry_headers(owned, pending, &origin, &history, round)
            }
            Publish::DeadLetter { .. } => {
                self.dead_letter_headers(owned, pending, &origin, &history, request.headers)
            }
        };
        Some(OutgoingRecord {
            topic: target.name.clone(),
            partition: Some(partition_in(target, origin.partition)),
            key: pending.record.key_bytes(),
            value: pending.record.value_bytes(),
            headers,
            // The time of writing. With the record's own time the topic would refuse what is ahead
            // of its clock (`message.timestamp.after.max.ms`), and its retention would delete what
            // is old. That time is in a header.
            timestamp_millis: None,
        })
    }

    fn dead_letter_headers(
        &self,
        owned: &OwnedPartition,
        pending: &PendingRecord,
        origin: &Origin,
        history: &FailureHistory,
        which: FailureHeaders,
    ) -> Headers {
        let timestamp = pending.record.origin_timestamp_millis();
        dead_letter::dead_letter_headers(
            pending.record.headers(),
            origin,
            timestamp,
            self.writer(owned),
            history,
            which,
        )
    }

    fn retry_headers(
        &self,
        owned: &OwnedPartition,
        pending: &PendingRecord,
        origin: &Origin,
        history: &FailureHistory,
        round: Round,
    ) -> Headers {
        dead_letter::retry_headers(
            pending.record.headers(),
            origin,
            pending.record.origin_timestamp_millis(),
            self.writer(owned),
            history,
            round,
            pending.record.metadata(),
        )
    }

    fn writer<'a>(&'a self, owned: &'a OwnedPartition) -> Writer<'a> {
        Writer {
            group: &owned.runtime.group,
            epoch: self.membership.as_deref(),
            retry_topic: owned.runtime.retry_topic.as_ref().map(|topic| &*topic.name),
            conventions: &owned.runtime.dead_letter_headers,
        }
    }
}

fn no_producer() -> WriteError {
    WriteError {
        topic: "".into(),
        failure: WriteFailure::Abandoned,
    }
}

fn partition_in(target: &TopicTarget, source: i32) -> i32 {
    map_partition(source, target.partitions.get())
}
