//! Writes to the retry and dead-letter topics.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use keylane_core::{FailureHeaders, Publish, PublishRequest};

use super::history::{history, last_history};
use crate::Headers;
use crate::dead_letter::{self, FailureHistory, Round, Writer, unwrapped_headers};
use crate::kafka::topics::map_partition;
use crate::producer::TopicTarget;
use crate::producer::raw::OutgoingRecord;
use crate::producer::write_error::{WriteError, WriteFailure};
use crate::record::{Origin, Record, legacy_task};
use crate::runtime::inbox::Written;
use crate::runtime::owned::OwnedPartition;
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
        let attempts = request.attempts;
        let (target, history) = match &request.publish {
            Publish::Retry { .. } => (
                owned.runtime.retry_topic.as_ref()?,
                history(pending, attempts, "retryable"),
            ),
            Publish::DeadLetter { reason } => (
                owned.runtime.dead_letter_topic.as_ref()?,
                last_history(
                    pending,
                    attempts,
                    *reason,
                    owned.core.crashes(request.offset),
                    owned.dead_letter_orders.get(&request.offset),
                ),
            ),
        };
        target.refresh(
            &owned.runtime.side_config,
            &owned.runtime.control,
            clock::now(),
        );
        let origin = owned.origin_of(pending);
        let record = &pending.record;
        let (headers, value) = match &request.publish {
            Publish::Retry { round, delay } => {
                let due = clock::unix_millis()
                    .saturating_add(i64::try_from(delay.as_millis()).unwrap_or(i64::MAX));
                let retried_for = request.retried_for;
                let round = Round {
                    number: *round,
                    due_millis: due,
                    retried_for,
                };
                let mut headers = self.retry_headers(owned, record, &origin, &history, round);
                let mut value = record.value_bytes();
                if let Some(task) = value.as_mut().filter(|_| owned.runtime.wraps_retries) {
                    *task = legacy_task::wrap(&mut headers, task);
                }
                (headers, value)
            }
            Publish::DeadLetter { .. } => {
                let which = request.headers;
                self.dead_letter(owned, record, &origin, &history, which)
            }
        };
        Some(OutgoingRecord {
            topic: target.name.clone(),
            partition: Some(partition_in(target, origin.partition)),
            key: record.key_bytes(),
            value,
            headers,
            // The time of writing. With the record's own time the topic would refuse what is ahead
            // of its clock (`message.timestamp.after.max.ms`), and its retention would delete what
            // is old. That time is in a header.
            timestamp_millis: None,
        })
    }

    /// A task that was never retried through a topic leaves as it came, in its wrapper too.
    fn dead_letter(
        &self,
        owned: &OwnedPartition,
        record: &Record,
        origin: &Origin,
        history: &FailureHistory,
        which: FailureHeaders,
    ) -> (Headers, Option<Bytes>) {
        let (headers, value) = match record.retry_state().is_some_and(|retry| retry.round > 0) {
            true => (unwrapped_headers(record), record.value_bytes()),
            false => (Cow::Borrowed(record.headers()), record.value_as_read()),
        };
        let headers = dead_letter::dead_letter_headers(
            &headers,
            origin,
            record.origin_timestamp_millis(),
            self.writer(owned),
            history,
            which,
        );
        (headers, value)
    }

    fn retry_headers(
        &self,
        owned: &OwnedPartition,
        record: &Record,
        origin: &Origin,
        history: &FailureHistory,
        round: Round,
    ) -> Headers {
        dead_letter::retry_headers(
            &unwrapped_headers(record),
            origin,
            record.origin_timestamp_millis(),
            self.writer(owned),
            history,
            round,
            record.metadata(),
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
