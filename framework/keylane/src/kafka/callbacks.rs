//! The callbacks of the Kafka client. They run inside `poll`, on the polling thread, and only
//! report.

use std::ffi::CString;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use keylane_core::member::TopicPartition;
use keylane_core::member::hand_over::{AnsweredBy, LOOK_UP, Revoked};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};

use super::committed::COMMITTED_TIMEOUT;
use super::events::{GroupEvent, NewPartition};
use super::fetch_queue::Forwarding;
use super::healthy::{Sign, healthy};
use super::lists::list;
use super::starts::Starts;
use super::{client_log, native, trouble};
use crate::metrics::{CommitFailure, SubscriptionMetrics};
use crate::status::{Control, SharedLease, SubscriptionError};
use crate::support::lock::lock;
use crate::support::panics;

/// The consumer's context: a mailbox for the loop, and the place where errors are noted.
pub(crate) struct Context {
    control: Arc<Control>,
    metrics: Arc<SubscriptionMetrics>,
    events: Mutex<Vec<GroupEvent>>,
    /// From here on a revoke is answered in the callback: the loop no longer runs.
    closing: AtomicBool,
    /// Partitions of revokes that were reported and not answered: the client waits for an answer to
    /// each, does not ask a second time, and does not close without. `Some` also for a revoke of
    /// nothing.
    owed: Mutex<Option<Vec<TopicPartition>>>,
    eager: AtomicBool,
    starts: Starts,
    session_timeout: OnceLock<String>,
    forwarding: Arc<Forwarding>,
    lease: Arc<SharedLease>,
    /// What rebalances have taken of the polling thread's time inside the client.
    rebalance_nanos: AtomicU64,
}

impl Context {
    pub(crate) fn new(
        control: Arc<Control>,
        metrics: Arc<SubscriptionMetrics>,
        lease: Arc<SharedLease>,
        starts: Starts,
    ) -> Self {
        Self {
            control,
            metrics,
            events: Mutex::new(Vec::new()),
            closing: AtomicBool::new(false),
            owed: Mutex::new(None),
            eager: AtomicBool::new(false),
            starts,
            session_timeout: OnceLock::new(),
            forwarding: Arc::default(),
            lease,
            rebalance_nanos: AtomicU64::new(0),
        }
    }

    /// Whether starts are allowed.
    pub(crate) fn lease(&self) -> &SharedLease {
        &self.lease
    }

    pub(crate) fn take_events(&self) -> Vec<GroupEvent> {
        std::mem::take(&mut *self.events())
    }

    /// Whether the assignment has changed, or is to, without the loop's knowledge. Until it has
    /// looked, records must not be taken out: those of a partition it does not know would be passed
    /// over.
    pub(crate) fn has_events(&self) -> bool {
        !self.events().is_empty()
    }

    /// From here on the client answers revokes by itself: the loop is gone. An unanswered one is
    /// answered now.
    pub(crate) fn close(&self, consumer: &BaseConsumer<Self>) {
        self.closing.store(true, Ordering::Relaxed);
        let owed = self.owed().take();
        if let Some(partitions) = owed
            && let Err(error) = self.unassign(consumer, &partitions)
        {
            tracing::warn!(%error, "the client refused the answer to a revoke");
        }
    }

    /// Answers all revokes that were reported, which are about these partitions.
    pub(crate) fn answer(
        &self,
        consumer: &BaseConsumer<Self>,
        partitions: &[TopicPartition],
    ) -> KafkaResult<()> {
        *self.owed() = None;
        self.unassign(consumer, partitions)
    }

    fn unassign(
        &self,
        consumer: &BaseConsumer<Self>,
        partitions: &[TopicPartition],
    ) -> KafkaResult<()> {
        if self.is_eager() {
            return consumer.unassign();
        }
        let names = partitions
            .iter()
            .map(|place| (&*place.topic, place.partition));
        consumer.incremental_unassign(&list(names))
    }

    fn owed(&self) -> MutexGuard<'_, Option<Vec<TopicPartition>>> {
        lock(&self.owed)
    }

    /// Whether the assignor is an eager one: then every rebalance revokes everything.
    pub(crate) fn is_eager(&self) -> bool {
        self.eager.load(Ordering::Relaxed)
    }

    /// The time that rebalances have taken inside the client since the last call.
    pub(crate) fn take_rebalance_time(&self) -> Duration {
        Duration::from_nanos(self.rebalance_nanos.swap(0, Ordering::Relaxed))
    }

    pub(super) fn forwarding(&self) -> &Arc<Forwarding> {
        &self.forwarding
    }

    pub(super) fn control(&self) -> &Control {
        &self.control
    }

    pub(super) fn starts(&self) -> &Starts {
        &self.starts
    }

    /// Commits that starts wait for are refused for some time.
    pub(crate) fn note_refused_start(&self, error: RDKafkaErrorCode) {
        trouble::note_commit(&self.control, &KafkaError::ConsumerCommit(error), None);
    }

    /// `session.timeout.ms`, set once.
    pub(crate) fn set_session_timeout(&self, timeout: &str) {
        let _ = self.session_timeout.set(timeout.to_owned());
    }

    fn complaint(&self, code: Option<RDKafkaErrorCode>, reason: &str) {
        let is_refused = code == Some(RDKafkaErrorCode::InvalidSessionTimeout);
        // The brokers have taken it before, and another one may take it again.
        if !is_refused || self.control.has_joined() {
            return trouble::note(&self.control, &self.metrics, code, reason);
        }
        // The client would be refused for ever, and the member have no partitions.
        self.control.fail(SubscriptionError::SettingRefused {
            setting: "session.timeout.ms",
            value: self.session_timeout.get().cloned().unwrap_or_default(),
            reason: "it has to be between the brokers' group.min.session.timeout.ms (6000 by default) and \
                     group.max.session.timeout.ms (1800000 by default)",
        });
    }

    fn events(&self) -> MutexGuard<'_, Vec<GroupEvent>> {
        lock(&self.events)
    }

    /// Calls what a callback does. The caller is C: a panic that went there would abort the
    /// process.
    fn guarded<T>(&self, call: impl FnOnce() -> T) -> Option<T> {
        let panicked = |text| {
            let error = format!("a callback of the kafka client panicked: {text}");
            self.control.fail(SubscriptionError::Internal(error));
        };
        panics::caught(call).map_err(panicked).ok()
    }

    /// Answers a rebalance whose callback has panicked, perhaps after its answer: the client would
    /// not close without.
    fn answer_anyhow(
        &self,
        consumer: &BaseConsumer<Self>,
        is_assignment: bool,
        partitions: &TopicPartitionList,
    ) {
        let answer = match (is_assignment, self.is_eager()) {
            (true, true) => consumer.assign(partitions),
            (true, false) => consumer.incremental_assign(partitions),
            (false, true) => consumer.unassign(),
            (false, false) => consumer.incremental_unassign(partitions),
        };
        if let Err(error) = answer {
            tracing::debug!(%error, "a rebalance was answered before its callback panicked");
        }
    }

    fn assign(&self, consumer: &BaseConsumer<Self>, partitions: &mut TopicPartitionList) {
        #[cfg(test)]
        panics::planted::step("assign", self.control.name());
        if !self.closing.load(Ordering::Relaxed) {
            // Not while closing: the call can hang then.
            self.eager.store(
                matches!(consumer.rebalance_protocol(), RebalanceProtocol::Eager),
                Ordering::Relaxed,
            );
        }
        // Before the assignment: nothing can be committed in between, so map and start position
        // belong together.
        let in_a_hurry =
            || self.closing.load(Ordering::Relaxed) || self.control.shutdown_deadline().is_some();
        let assigned = self.lease.during(COMMITTED_TIMEOUT, || {
            self.starts.find(consumer, partitions, in_a_hurry)
        });
        // Where the first position is found later any will do for now: the client need not look for
        // one. What is committed it looks up all the same.
        let has_no_commit = |new: &&NewPartition| {
            new.left.is_some() || (new.beginning.is_some() && new.committed.is_none())
        };
        let mut anew = assigned.iter().filter(has_no_commit);
        let at_beginning = |new: &NewPartition| {
            partitions.set_partition_offset(&new.topic, new.partition, Offset::Beginning)
        };
        let starts = anew.try_for_each(at_beginning);
        for new in &assigned {
            self.forwarding.forward(consumer, &new.topic, new.partition);
        }
        // While it is closing the call can hang, and nothing of the assignment starts.
        let membership = if self.closing.load(Ordering::Relaxed) {
            None
        } else {
            native::membership(consumer)
        };
        unpause(consumer, &assigned);
        hold(consumer, &assigned, self.control.feed.is_some());
        let answer = if self.is_eager() {
            consumer.assign(partitions)
        } else {
            consumer.incremental_assign(partitions)
        };
        // Without its start a partition would be read from what was committed, past records.
        match starts.and(answer) {
            Ok(()) => self.events().push(GroupEvent::Assigned {
                partitions: assigned,
                membership,
            }),
            Err(error) => self.events().push(GroupEvent::Failed(error.to_string())),
        }
    }

    fn revoke(&self, consumer: &BaseConsumer<Self>, partitions: &TopicPartitionList) {
        #[cfg(test)]
        panics::planted::step("revoke", self.control.name());
        let closing = self.closing.load(Ordering::Relaxed);
        let revoked = match consumer.assignment_lost() {
            true => Revoked::Lost,
            false => Revoked::Asked,
        };
        let partitions: Vec<_> = native::committed(partitions)
            .iter()
            .map(|element| TopicPartition::new(element.topic, element.partition))
            .collect();
        if revoked == Revoked::Lost && is_looked_up(consumer, &partitions) {
            std::thread::sleep(LOOK_UP);
        }
        let answered_by = {
            let mut owed = self.owed();
            let answered_by = revoked.answered_by(closing, owed.is_some());
            if answered_by == AnsweredBy::HandOver {
                owed.get_or_insert_default()
                    .extend(partitions.iter().cloned());
            }
            answered_by
        };
        if answered_by == AnsweredBy::Callback
            && let Err(error) = self.unassign(consumer, &partitions)
        {
            self.events().push(GroupEvent::Failed(error.to_string()));
        }
        self.events().push(GroupEvent::Revoked {
            partitions,
            revoked,
            answered_by,
        });
    }
}

/// Whether the client may still be looking up where to start: it has fetched nothing of one of the
/// partitions.
pub(super) fn is_looked_up(
    consumer: &BaseConsumer<Context>,
    partitions: &[TopicPartition],
) -> bool {
    partitions.iter().any(|place| {
        let topic = CString::new(&*place.topic);
        topic.is_ok_and(|topic| {
            native::cached_end_offset(consumer, &topic, place.partition).is_none()
        })
    })
}

/// A partition that comes back may still be paused from its last time here, and the loop's table
/// begins with none paused.
///
/// Before the assignment, never after: to resume a partition that fetches already makes librdkafka
/// throw away what it has fetched, without fetching it again.
fn unpause(consumer: &BaseConsumer<Context>, new: &[NewPartition]) {
    if new.is_empty() {
        return;
    }
    let list = list(new.iter().map(|new| (new.topic.as_str(), new.partition)));
    if let Err(error) = consumer.resume(&list) {
        tracing::warn!(%error, "the client refused to resume new partitions");
    }
}

/// Fetches nothing of partitions whose first position is not known, or not confirmed, yet; of none
/// where each first waits for what the control topic orders. Before the assignment, as [`unpause`]
/// is.
fn hold(consumer: &BaseConsumer<Context>, new: &[NewPartition], are_steered: bool) {
    let held = new
        .iter()
        .filter(|new| are_steered || new.beginning.is_some());
    let list = list(held.map(|new| (new.topic.as_str(), new.partition)));
    if list.count() == 0 {
        return;
    }
    if let Err(error) = consumer.pause(&list) {
        // What is read all the same is left out, and read again from the first position.
        tracing::warn!(%error, "the client refused to pause new partitions");
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.guarded(|| client_log::log("consumer", level, facility, message));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.guarded(|| {
            self.complaint(error.rdkafka_error_code(), reason);
        });
    }
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        error: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let began = Instant::now();
        let is_assignment = error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        let answered = self.guarded(|| match is_assignment {
            true => self.assign(consumer, partitions),
            false => self.revoke(consumer, partitions),
        });
        if answered.is_none() {
            self.answer_anyhow(consumer, is_assignment, partitions);
        }
        let took = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.rebalance_nanos.fetch_add(took, Ordering::Relaxed);
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        self.guarded(|| self.committed(result, offsets));
    }
}

impl Context {
    fn committed(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        let Err(error) = result else {
            self.metrics.committed();
            healthy(&self.control, Sign::Commit);
            return;
        };
        let code = error.rdkafka_error_code();
        match code {
            // Nothing to commit.
            Some(RDKafkaErrorCode::NoOffset) => {}
            // The epoch is over; what was not committed is delivered again to the new owner.
            Some(
                RDKafkaErrorCode::UnknownMemberId
                | RDKafkaErrorCode::IllegalGeneration
                | RDKafkaErrorCode::FencedInstanceId,
            ) => {
                self.metrics.commit_failed(CommitFailure::Fenced);
                tracing::warn!(%error, "a commit came after the assignment had been lost");
            }
            Some(RDKafkaErrorCode::OffsetMetadataTooLarge) => {
                self.metrics.commit_failed(CommitFailure::MetadataTooLarge);
            }
            _ => {
                self.metrics.commit_failed(trouble::commit_failure(code));
                // The trouble is reported once.
                tracing::debug!(%error, "a commit failed; the next one covers it");
                let elements = offsets.elements();
                let failed = elements.iter().find(|element| element.error().is_err());
                trouble::note_commit(&self.control, &error, failed.map(|element| element.topic()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;

    use super::*;
    use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};

    /// One answer ends the client's wait for both: what it does not name stays in the client's
    /// assignment, unowned.
    #[test]
    fn what_was_revoked_before_the_answer_is_owed_together() {
        let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
        let control = Arc::new(Control::new(Duration::ZERO));
        let metrics = Arc::new(SubscriptionMetrics::new("subscription"));
        let lease = Arc::new(SharedLease::new());
        let context = Context::new(control, metrics, lease, Starts::default());
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", broker.bootstrap_servers())
            .set("group.id", "group");
        let consumer: BaseConsumer<Context> = config.create_with_context(context).unwrap();
        let context = consumer.context();
        context.revoke(&consumer, &list([("tasks", 0)].into_iter()));
        context.revoke(&consumer, &list([("tasks", 1)].into_iter()));
        let both = [0, 1].map(|partition| TopicPartition::new("tasks", partition));
        assert_eq!(context.owed().as_deref(), Some(&both[..]));
        assert_eq!(context.take_events().len(), 2, "both are reported");
        context.close(&consumer);
        assert_eq!(*context.owed(), None);
    }
}
