//! Writes to the retry and dead-letter topics.

use std::sync::Arc;

use keylane_core::{FailureHeaders, Publish, PublishRequest, Reason};

use super::crash_care::poison_history;
use super::inbox::Written;
use super::owner::{Held, Owner};
use crate::dead_letter::{self, FailureHistory, Round, Writer};
use crate::kafka::topics::map_partition;
use crate::producer::TopicTarget;
use crate::producer::raw::OutgoingRecord;
use crate::producer::write_error::{WriteError, WriteFailure};
use crate::support::clock;
use crate::{Headers, Origin};

impl Owner {
    /// Sends what the core wants written. The answer comes back through the inbox.
    ///
    /// Nothing of an epoch that is over: the next owner decides anew, and a write made here would
    /// be a copy of its own. What the client has taken already goes out all the same, in order with
    /// what other partitions write; its headers say whose it is. Nor of one that may be over: see
    /// [`keylane_core::Lease`].
    pub(super) fn publish_ready(&mut self) {
        if self.inbox.is_ended() || !self.runtime.lease.allows(clock::now()) {
            return;
        }
        while let Some(request) = self.core.next_publish() {
            let outgoing = self.outgoing(&request);
            let inbox = self.inbox.clone();
            let ticket = request.ticket;
            match (outgoing, &self.runtime.writer) {
                (Some(outgoing), Some(writer)) => {
                    let answer = writer.send(outgoing);
                    #[cfg(test)]
                    let topic = self.topic.clone();
                    self.spawn(async move {
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
                // The core asks only for topics that the settings name, and start-up made a
                // producer for those.
                _ => inbox.written(Written {
                    ticket,
                    result: Err(no_producer()),
                }),
            }
        }
    }

    fn outgoing(&self, request: &PublishRequest) -> Option<OutgoingRecord> {
        let held = self.core.record(request.ticket)?;
        let (target, reason) = match &request.publish {
            Publish::Retry { .. } => (self.runtime.retry_topic.as_ref()?, "retryable"),
            Publish::DeadLetter { reason } => {
                (self.runtime.dead_letter_topic.as_ref()?, reason.as_str())
            }
        };
        target.refresh(
            &self.runtime.side_config,
            &self.runtime.control,
            clock::now(),
        );
        let history = match &request.publish {
            Publish::DeadLetter {
                reason: Reason::Poison,
            } => poison_history(held, request.attempts, self.core.crashes(request.offset)),
            _ => history(held, request.attempts, reason),
        };
        let origin = self.origin_of(held);
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
                self.retry_headers(held, &origin, &history, round)
            }
            Publish::DeadLetter { .. } => {
                self.dead_letter_headers(held, &origin, &history, request.headers)
            }
        };
        Some(OutgoingRecord {
            topic: target.name.clone(),
            partition: Some(partition_in(target, origin.partition)),
            key: held.record.key_bytes(),
            value: held.record.value_bytes(),
            headers,
            // The time of writing. With the record's own time the topic would refuse what is ahead
            // of its clock (`message.timestamp.after.max.ms`), and its retention would delete what
            // is old. That time is in a header.
            timestamp_millis: None,
        })
    }

    fn dead_letter_headers(
        &self,
        held: &Held,
        origin: &Origin,
        history: &FailureHistory,
        which: FailureHeaders,
    ) -> Headers {
        let timestamp = held.record.origin_timestamp_millis();
        dead_letter::dead_letter_headers(
            held.record.headers(),
            origin,
            timestamp,
            self.writer(),
            history,
            which,
        )
    }

    fn retry_headers(
        &self,
        held: &Held,
        origin: &Origin,
        history: &FailureHistory,
        round: Round,
    ) -> Headers {
        dead_letter::retry_headers(
            held.record.headers(),
            origin,
            held.record.origin_timestamp_millis(),
            self.writer(),
            history,
            round,
            held.record.metadata(),
        )
    }

    fn writer(&self) -> Writer<'_> {
        Writer {
            group: &self.runtime.group,
            epoch: self.membership.as_deref(),
        }
    }

    pub(super) fn origin_of(&self, held: &Held) -> Origin {
        held.record.origin().cloned().unwrap_or_else(|| Origin {
            topic: Arc::clone(&self.topic),
            partition: self.partition_id,
            offset: held.record.offset(),
        })
    }
}

fn no_producer() -> WriteError {
    WriteError {
        topic: "".into(),
        failure: WriteFailure::Abandoned,
    }
}

fn history(held: &Held, attempts: u32, reason: &'static str) -> FailureHistory {
    match &held.failure {
        Some(failure) => FailureHistory {
            attempts,
            reason,
            ..(**failure).clone()
        },
        None => {
            let now = clock::unix_millis();
            FailureHistory {
                attempts,
                first_failure_millis: now,
                last_failure_millis: now,
                reason,
                error: String::new(),
            }
        }
    }
}

fn partition_in(target: &TopicTarget, source: i32) -> i32 {
    map_partition(source, target.partitions.get())
}
