//! Where the partitions of an assignment begin: what is committed, and which logs they are now.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use keylane_core::{Beginning, Reset, Resume, commit_map};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};

use super::committed::{COMMITTED_TIMEOUT, committed};
use super::events::{CommittedPoint, NewPartition};
use super::lists::list;
use super::native;
use super::topic_ids::{Answer, Inquiry, Logs};

/// How long an assignment waits for the topics' ids. Without them what was committed is believed
/// for now, and compared later.
const IDENTITY_TIMEOUT: Duration = Duration::from_secs(2);

/// Finds the starts of new partitions.
#[derive(Default)]
pub(crate) struct Starts {
    /// `auto.offset.reset`.
    reset: Reset,
    /// Whether topic ids are worth waiting for: there is a controller, and the last query was
    /// answered.
    ids_answered: AtomicBool,
}

impl Starts {
    pub(crate) fn new(reset: Reset, ids_answered: bool) -> Self {
        Self {
            reset,
            ids_answered: ids_answered.into(),
        }
    }

    pub(super) fn set_ids_answered(&self, answered: bool) {
        self.ids_answered.store(answered, Ordering::Relaxed);
    }

    /// What is known of partitions that are about to be assigned: what was committed, and which
    /// logs they are now.
    pub(super) fn find<C: ConsumerContext>(
        &self,
        consumer: &BaseConsumer<C>,
        partitions: &TopicPartitionList,
        in_a_hurry: impl Fn() -> bool,
    ) -> Vec<NewPartition> {
        let new = |element: native::Committed<'_>| NewPartition {
            topic: element.topic.to_owned(),
            partition: element.partition,
            committed: None,
            log: None,
            log_is_confirmed: false,
            left: None,
            stale_end: CString::new(element.topic)
                .ok()
                .and_then(|topic| native::cached_end_offset(consumer, &topic, element.partition)),
            beginning: None,
        };
        let mut assigned: Vec<_> = native::committed(partitions).into_iter().map(new).collect();
        if assigned.is_empty() {
            return assigned;
        }
        let inquiry = {
            let topics: BTreeSet<_> = assigned.iter().map(|new| new.topic.as_str()).collect();
            // Queried before the position, so that it is never compared with an older log than its
            // own; answered in the meantime.
            Inquiry::send(consumer, &Vec::from_iter(topics), IDENTITY_TIMEOUT)
        };
        let wait = if self.ids_answered.load(Ordering::Relaxed) {
            IDENTITY_TIMEOUT
        } else {
            Duration::ZERO
        };
        let asked = Instant::now();
        self.add_committed(consumer, &mut assigned, in_a_hurry);
        let answer = inquiry.answer(wait.saturating_sub(asked.elapsed()));
        self.set_ids_answered(matches!(answer, Answer::Logs(_)));
        let logs = if let Answer::Logs(logs) = answer {
            logs
        } else {
            Logs::new()
        };
        compare_logs(&mut assigned, &logs);
        for new in &mut assigned {
            new.log_is_confirmed = logs.iter().any(|(topic, _)| *topic == new.topic);
            let position = new.committed.as_ref().map(|committed| committed.position);
            let confirm = position.and_then(|at| Beginning::confirm(at.position, at.leader_epoch));
            new.beginning = new.beginning.or(confirm);
        }
        assigned
    }

    /// Queries the committed offsets with their metadata. Lists passed to the client are built,
    /// used and dropped here: one that stays alive keeps the client from closing.
    fn add_committed<C: ConsumerContext>(
        &self,
        consumer: &BaseConsumer<C>,
        assigned: &mut [NewPartition],
        in_a_hurry: impl Fn() -> bool,
    ) {
        let partitions = || {
            list(
                assigned
                    .iter()
                    .map(|new| (new.topic.as_str(), new.partition)),
            )
        };
        match committed(consumer, partitions, COMMITTED_TIMEOUT, in_a_hurry) {
            Ok(answer) => {
                for element in native::committed(&answer) {
                    let known = assigned.iter_mut().find(|new| {
                        new.partition == element.partition && new.topic == element.topic
                    });
                    match known {
                        Some(new) if element.offset >= 0 => {
                            new.committed = CommittedPoint::of(&element)
                        }
                        Some(new) if element.is_refused => {
                            new.beginning = Some(Beginning::unknown(self.reset))
                        }
                        Some(new) => new.beginning = self.without_commit(),
                        None => {}
                    }
                }
            }
            Err(error) => {
                let unknown = Beginning::unknown(self.reset);
                assigned
                    .iter_mut()
                    .for_each(|new| new.beginning = Some(unknown));
                tracing::warn!(
                    %error, partitions = assigned.len(),
                    "the committed offsets cannot be read; nothing starts in the new partitions until they are known"
                );
            }
        }
    }

    /// With any other policy than `latest` the client finds the beginning by itself.
    fn without_commit(&self) -> Option<Beginning> {
        (self.reset == Reset::Latest).then(|| Beginning::without_commit(self.reset))
    }
}

/// Leaves what was committed for another topic of the same name.
pub(crate) fn compare_logs(assigned: &mut [NewPartition], logs: &Logs) {
    for new in assigned {
        let there = logs
            .iter()
            .find(|(topic, _)| *topic == new.topic)
            .map(|(_, log)| *log);
        let named = new.committed.as_ref().and_then(|committed| {
            // What cannot be read is reported where the rest of it is used.
            let text = std::str::from_utf8(&committed.metadata).ok()?;
            commit_map::decode(committed.position.position, text)
                .ok()?
                .log
        });
        match Resume::of(named, there) {
            Resume::Committed(log) => new.log = log,
            Resume::FromStart(log) => {
                new.log = Some(log);
                new.left = new
                    .committed
                    .take()
                    .map(|committed| committed.position.position);
            }
        }
    }
}
