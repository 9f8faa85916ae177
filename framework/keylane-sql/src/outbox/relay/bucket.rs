//! Publishes the rows of one bucket, one transaction after the other, for as long as this relay holds it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use keylane::producer::outbox::{PublishError, Record};
use keylane_core::outbox::BatchLimit;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::kafka::Kafka;
use super::settings::{Settings, Unsendable};
use super::topics::Topics;
use crate::database::Database;
use crate::outbox::metrics::Series;
use crate::outbox::row::StoredRow;
use crate::outbox::store::{Lease, Meta, Reading, RowName};
use crate::outbox::table::Outbox;

/// For taking a transactional id: longer than a transaction that another relay has left open.
const TAKE_PATIENCE: Duration = Duration::from_secs(25);
/// Between two attempts of anything that failed: first, and at most, doubling.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
const AGAIN_AFTER_AT_MOST: Duration = Duration::from_secs(5);
/// The reason of a row, in the table.
const MOST_REASON_BYTES: usize = 1_000;

/// What all buckets of a relay share.
pub(super) struct Common<D: Database, K: Kafka> {
    pub(super) outbox: Outbox<D>,
    pub(super) meta: Meta,
    pub(super) kafka: K,
    pub(super) settings: Settings,
    pub(super) topics: Mutex<Topics>,
    pub(super) series: Series,
    /// No transaction begins after this time, which moves with each renewal of the leases.
    pub(super) held_until: watch::Receiver<Instant>,
}

impl<D: Database, K: Kafka> Common<D, K> {
    fn topics<R>(&self, with: impl FnOnce(&mut Topics) -> R) -> R {
        with(&mut self.topics.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One bucket, as this relay has it.
pub(super) struct BucketWorker<D: Database, K: Kafka> {
    common: Arc<Common<D, K>>,
    lease: Lease,
    stop: CancellationToken,
    wake: Arc<Notify>,
    publisher: Option<K::Publisher>,
    limit: BatchLimit,
    pause: Pause,
    /// Published, but not deleted yet.
    published: Vec<RowName>,
    /// The last transaction had no answer: what comes may be there already.
    may_repeat: usize,
}

/// What a look at the table came to.
enum Look {
    /// There may be more.
    Again,
    /// All that was there is published; what comes next waits until then, to be published together.
    Linger(Instant),
    /// There is nothing to do before something happens.
    Idle,
    /// It failed; a pause is due.
    Failed,
}

impl<D: Database, K: Kafka> BucketWorker<D, K> {
    pub(super) fn new(
        common: Arc<Common<D, K>>,
        lease: Lease,
        stop: CancellationToken,
        wake: Arc<Notify>,
    ) -> Self {
        let limit = BatchLimit::new(common.settings.batch);
        Self {
            common,
            lease,
            stop,
            wake,
            publisher: None,
            limit,
            pause: Pause::default(),
            published: Vec::new(),
            may_repeat: 0,
        }
    }

    /// Until it is stopped. A transaction that has begun is ended, and its rows are deleted.
    pub(super) async fn run(mut self) {
        while !self.stop.is_cancelled() {
            let look = self.look().await;
            let wait = match look {
                Look::Again => {
                    self.pause.forget();
                    continue;
                }
                Look::Linger(until) => {
                    self.pause.forget();
                    until.saturating_duration_since(Instant::now())
                }
                Look::Idle => {
                    self.pause.forget();
                    self.common.settings.poll_interval
                }
                Look::Failed => self.pause.next(),
            };
            let is_idle = matches!(look, Look::Idle);
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = self.wake.notified(), if is_idle => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        self.delete_published().await;
        self.drop_publisher().await;
        let lease = &self.lease;
        let (pool, table) = (self.common.outbox.pool(), self.common.outbox.table_name());
        if let Err(error) = D::release(pool, table, lease).await {
            tracing::warn!(outbox = %table, bucket = lease.bucket, %error,
                "a bucket of the outbox could not be given up; its lease expires by itself");
        }
    }

    async fn look(&mut self) -> Look {
        if !self.delete_published().await {
            return Look::Failed;
        }
        if !self.is_held() {
            return self.wait_until_held().await;
        }
        if self.publisher.is_none() && !self.take().await {
            return Look::Failed;
        }
        let except = self.common.topics(|topics| topics.resting(Instant::now()));
        let reading = Reading {
            bucket: self.lease.bucket,
            rows: self.limit.rows(),
            bytes: self.common.settings.batch_bytes,
            except,
            holds_keys: self.common.settings.unsendable == Unsendable::HoldKey,
        };
        let (pool, table) = (self.common.outbox.pool(), self.common.outbox.table_name());
        match D::read(pool, table, &reading).await {
            Ok(rows) if rows.is_empty() => {
                self.serve().await;
                Look::Idle
            }
            Ok(rows) => self.publish(rows).await,
            Err(error) => self.failed("the outbox cannot be read", &error),
        }
    }

    /// Publishes the rows; or some of them; or finds that one of them cannot be.
    async fn publish(&mut self, rows: Vec<StoredRow>) -> Look {
        let began = Instant::now();
        if self.rest_topics(&rows).await {
            return Look::Again;
        }
        let mut records = Vec::with_capacity(rows.len());
        let mut sending = Vec::with_capacity(rows.len());
        for mut row in rows {
            match row.record() {
                Ok(record) => {
                    records.push(record);
                    sending.push(row);
                }
                // Rows behind it may be of its key: they are read again without them.
                Err(reason) if sending.is_empty() => return self.set_aside(&row, &reason).await,
                Err(_) => break,
            }
        }
        let count = u32::try_from(records.len()).unwrap_or(u32::MAX);
        match self.transaction(records).await {
            Ok(()) => {
                self.committed(&sending);
                let is_full = count >= self.limit.rows();
                self.limit.committed();
                match self.delete_published().await {
                    true if is_full => Look::Again,
                    true => Look::Linger(began + self.common.settings.linger),
                    false => Look::Failed,
                }
            }
            Err(PublishError::Refused(refused)) => {
                for (index, reason) in refused {
                    let Some(row) = sending.get(index) else {
                        continue;
                    };
                    if let failed @ Look::Failed = self.set_aside(row, &reason).await {
                        return failed;
                    }
                }
                Look::Again
            }
            Err(PublishError::RefusedAmong(reason)) => match &sending[..] {
                [row] => self.set_aside(row, &reason).await,
                _ => {
                    self.limit.refused(count);
                    Look::Again
                }
            },
            Err(PublishError::Slow(reason)) => {
                self.limit.slow(count);
                self.doubt("a transaction of the outbox took too long", &reason)
            }
            Err(PublishError::Failed(reason)) => {
                self.doubt("the outbox cannot be published", &reason)
            }
            Err(PublishError::Fenced) => {
                self.drop_publisher().await;
                self.common.series.fenced();
                // Where the lease is lost too, this ends soon.
                let reason = "another relay has taken its transactional id";
                self.failed("a bucket of the outbox was taken over", &reason)
            }
            Err(PublishError::Lost(reason)) => {
                self.drop_publisher().await;
                self.failed("the producer of the outbox failed and is replaced", &reason)
            }
            Err(PublishError::Unanswered(reason)) => {
                self.drop_publisher().await;
                self.may_repeat = sending.len();
                self.failed(
                    "a transaction of the outbox has no answer and is repeated",
                    &reason,
                )
            }
        }
    }

    /// Looks at topics that are not known. Returns whether one of them cannot be written to: then the rows
    /// are read again without its rows.
    async fn rest_topics(&mut self, rows: &[StoredRow]) -> bool {
        let topics: BTreeSet<&str> = rows.iter().map(|row| &*row.topic).collect();
        let mut rests = false;
        for topic in topics {
            let now = Instant::now();
            // An invalid name is a matter of its row.
            if keylane_core::check_topic_name(topic).is_err()
                || !self.common.topics(|topics| topics.is_unknown(topic, now))
            {
                continue;
            }
            let table = self.common.outbox.table_name();
            match self.common.kafka.topic(topic).await {
                Ok(()) => {
                    if self.common.topics(|topics| topics.good(topic)) {
                        tracing::info!(outbox = %table, topic, "a topic of the outbox can be written to again");
                    }
                }
                Err(reason) => {
                    rests = true;
                    let now = Instant::now();
                    if self.common.topics(|topics| topics.rest(topic, now)) {
                        tracing::error!(outbox = %table, topic, reason,
                            "rows of the outbox wait: their topic cannot be written to");
                    }
                }
            }
            let unavailable = self.common.topics(|topics| topics.unavailable());
            self.common.series.unavailable_topics(unavailable);
        }
        rests
    }

    /// On a thread for blocking work.
    async fn transaction(&mut self, records: Vec<Record>) -> Result<(), PublishError> {
        if !self.is_held() {
            return Err(PublishError::Failed(
                "the lease was not renewed in time".to_owned(),
            ));
        }
        let Some(mut publisher) = self.publisher.take() else {
            return Err(PublishError::Failed("there is no producer".to_owned()));
        };
        let work = tokio::task::spawn_blocking(move || {
            let published = K::publish(&mut publisher, &records);
            (publisher, published)
        });
        match work.await {
            Ok((publisher, published)) => {
                self.publisher = Some(publisher);
                published
            }
            Err(error) => resume(error),
        }
    }

    fn committed(&mut self, rows: &[StoredRow]) {
        let series = &self.common.series;
        series.published(rows.len());
        series.repeated(std::mem::take(&mut self.may_repeat).min(rows.len()));
        series.waited(rows.iter().map(|row| row.age + row.read_at.elapsed()));
        self.published.extend(rows.iter().map(StoredRow::name));
    }

    /// Deletes what is published. That is right whoever holds the bucket by now: it is published. Returns
    /// whether nothing is left to delete.
    async fn delete_published(&mut self) -> bool {
        if self.published.is_empty() {
            return true;
        }
        let (pool, table) = (self.common.outbox.pool(), self.common.outbox.table_name());
        let keeps = self.common.settings.keep_sent.is_some();
        match D::sent(pool, table, &self.published, keeps).await {
            Ok(()) => {
                self.published.clear();
                true
            }
            Err(error) => {
                let rows = self.published.len();
                let bucket = self.lease.bucket;
                tracing::warn!(outbox = %table, bucket, rows, %error,
                    "published rows of the outbox could not be deleted; another relay would publish them again");
                false
            }
        }
    }

    async fn set_aside(&mut self, row: &StoredRow, reason: &str) -> Look {
        let mut end = reason.len().min(MOST_REASON_BYTES);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        let reason = reason[..end].replace('\0', " ");
        let (pool, table) = (self.common.outbox.pool(), self.common.outbox.table_name());
        match D::set_aside(pool, table, &self.lease, row.name(), &reason).await {
            Ok(true) => {
                self.common.series.set_aside();
                tracing::error!(outbox = %table, id = %row.id, topic = row.topic, reason,
                    "a row of the outbox cannot be sent and is set aside; send it again by `retry`, or give it up by \
                     `discard`");
                Look::Again
            }
            Ok(false) => self.failed("a row cannot be set aside", &"the bucket is lost"),
            Err(error) => self.failed("a row of the outbox cannot be set aside", &error),
        }
    }

    /// Takes the transactional id of the bucket: from then on no other relay can publish its rows.
    async fn take(&mut self) -> bool {
        let common = self.common.clone();
        let (pool, table) = (common.outbox.pool(), common.outbox.table_name());
        // Who was fenced would otherwise fence the one that has the bucket now.
        match D::holds(pool, table, &self.lease).await {
            Ok(true) => {}
            Ok(false) => {
                self.stop.cancel();
                return false;
            }
            Err(error) => {
                self.failed("the outbox cannot be read", &error);
                return false;
            }
        }
        let (kafka, bucket) = (common.kafka.clone(), self.lease.bucket);
        let instance = common.meta.instance;
        let id = format!("keylane-outbox/{table}/{instance}/{bucket}");
        let work = tokio::task::spawn_blocking(move || kafka.take(&id, TAKE_PATIENCE));
        match work.await {
            Ok(Ok(publisher)) => {
                self.publisher = Some(publisher);
                true
            }
            Ok(Err(error)) => {
                let reason = match error {
                    PublishError::Lost(reason)
                    | PublishError::Failed(reason)
                    | PublishError::Slow(reason)
                    | PublishError::Unanswered(reason)
                    | PublishError::RefusedAmong(reason) => reason,
                    PublishError::Fenced | PublishError::Refused(_) => {
                        "another relay has taken its transactional id".to_owned()
                    }
                };
                self.failed("a bucket of the outbox has no producer", &reason);
                false
            }
            Err(error) => resume(error),
        }
    }

    /// Its end blocks.
    async fn drop_publisher(&mut self) {
        if let Some(publisher) = self.publisher.take() {
            let dropped = tokio::task::spawn_blocking(move || drop(publisher));
            if let Err(error) = dropped.await {
                resume(error)
            }
        }
    }

    async fn serve(&mut self) {
        if let Some(publisher) = &mut self.publisher {
            K::serve(publisher);
        }
    }

    fn is_held(&self) -> bool {
        Instant::now() < *self.common.held_until.borrow()
    }

    async fn wait_until_held(&mut self) -> Look {
        let mut held_until = self.common.held_until.clone();
        tokio::select! {
            () = self.stop.cancelled() => {}
            // Not `changed`: each clone of the receiver takes the last value for a new one.
            is_over = async {
                let is_held = |until: &Instant| Instant::now() < *until;
                held_until.wait_for(is_held).await.is_err()
            } => {
                // The relay has ended without stopping this: it has panicked.
                if is_over {
                    self.stop.cancel();
                }
            }
        }
        Look::Again
    }

    /// Topics are looked at again: one of them may be gone.
    fn doubt(&mut self, what: &str, reason: &str) -> Look {
        self.common.topics(Topics::doubt);
        self.failed(what, &reason)
    }

    fn failed(&mut self, what: &str, reason: &dyn std::fmt::Display) -> Look {
        let (table, bucket) = (self.common.outbox.table_name(), self.lease.bucket);
        // Once an episode at this level: it is tried again and again.
        match self.pause.is_new() {
            true => tracing::warn!(outbox = %table, bucket, %reason, "{what}"),
            false => tracing::debug!(outbox = %table, bucket, %reason, "{what}"),
        }
        Look::Failed
    }
}

/// A panic of a thread goes on in the task.
fn resume(error: tokio::task::JoinError) -> ! {
    match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        // The runtime is ending: so is this task.
        Err(_) => panic!("the runtime has ended"),
    }
}

/// The wait after a failure, which doubles.
#[derive(Debug, Default)]
struct Pause {
    failures: u32,
}

impl Pause {
    fn is_new(&self) -> bool {
        self.failures == 0
    }

    fn next(&mut self) -> Duration {
        let wait = AGAIN_AFTER.saturating_mul(1 << self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        wait.min(AGAIN_AFTER_AT_MOST)
    }

    fn forget(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_one() {
        let mut pause = Pause::default();
        assert!(pause.is_new());
        assert_eq!(pause.next(), AGAIN_AFTER);
        assert_eq!(pause.next(), 2 * AGAIN_AFTER);
        assert!(!pause.is_new());
        for _ in 0..100 {
            pause.next();
        }
        assert_eq!(pause.next(), AGAIN_AFTER_AT_MOST);
        pause.forget();
        assert!(pause.is_new());
    }
}
