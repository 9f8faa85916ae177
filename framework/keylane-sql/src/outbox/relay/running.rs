//! A relay at work: it renews its leases, has its share of the buckets, and a worker for each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use keylane_core::outbox::{Bucket, Holder, moves};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::bucket::{BucketWorker, Common};
use super::kafka::Kafka;
use super::settings::Settings;
use crate::database::Database;
use crate::outbox::metrics::Series;
use crate::outbox::store::{Lease, Meta, View};
use crate::outbox::table::Outbox;

/// Counting rows and deleting old ones.
const FIGURES_EVERY: Duration = Duration::from_secs(10);
/// Between two attempts to listen.
const LISTEN_AGAIN_AFTER: Duration = Duration::from_secs(5);

pub(super) struct Running<D: Database, K: Kafka> {
    common: Arc<Common<D, K>>,
    relay: String,
    stop: CancellationToken,
    held_until: watch::Sender<Instant>,
    wakes: Arc<Vec<Arc<Notify>>>,
    workers: BTreeMap<Bucket, Worker>,
    tasks: JoinSet<Bucket>,
    /// The last renewal failed.
    is_cut_off: bool,
}

struct Worker {
    token: i64,
    stop: CancellationToken,
}

impl<D: Database, K: Kafka> Running<D, K> {
    pub(super) fn new(
        outbox: Outbox<D>,
        meta: Meta,
        kafka: K,
        settings: Settings,
        stop: CancellationToken,
    ) -> Self {
        let host = gethostname::gethostname();
        let (host, process) = (host.to_string_lossy(), std::process::id());
        let (held_until, held) = watch::channel(Instant::now());
        let series = Series::of(outbox.table_name());
        let common = Common {
            outbox,
            meta,
            kafka,
            settings,
            topics: Default::default(),
            series,
            held_until: held,
        };
        Self {
            common: Arc::new(common),
            relay: format!("{host}/{process}/{}", Uuid::now_v7()),
            stop,
            held_until,
            wakes: Arc::new((0..meta.buckets).map(|_| Arc::default()).collect()),
            workers: BTreeMap::new(),
            tasks: JoinSet::new(),
            is_cut_off: false,
        }
    }

    /// Until it is stopped. An error is the text of a panic.
    pub(super) async fn run(mut self) -> Result<(), String> {
        let stop = self.stop.clone();
        let lease = self.common.settings.lease;
        let mut renewal = tokio::time::interval(lease / 3);
        renewal.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut changes = self.common.outbox.wakes();
        let beside = CancellationToken::new();
        let _ends_with_this = beside.clone().drop_guard();
        let mut besides = JoinSet::new();
        besides.spawn(listening(
            self.common.clone(),
            self.wakes.clone(),
            beside.clone(),
        ));
        besides.spawn(figures(self.common.clone(), beside));
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = renewal.tick() => self.renew().await,
                Some(ended) = self.tasks.join_next() => {
                    self.ended(ended)?;
                    // Its bucket may be another relay's by now, or free.
                    renewal.reset_after(Duration::from_millis(20));
                }
                Some(Err(error)) = besides.join_next() => return Err(text_of(error)),
                Ok(()) = changes.changed() => self.wakes.iter().for_each(|wake| wake.notify_one()),
            }
        }
        self.end().await
    }

    /// Renews the leases, and makes buckets and workers agree.
    async fn renew(&mut self) {
        let (common, relay) = (self.common.clone(), self.relay.clone());
        let (pool, table) = (common.outbox.pool(), common.outbox.table_name());
        let lease = common.settings.lease;
        // From before the request: the database counts from later on.
        let asked = Instant::now();
        let renewed = tokio::time::timeout(lease, D::renew(pool, table, &relay, lease)).await;
        let view = match renewed {
            Ok(Ok(view)) => view,
            Ok(Err(error)) => return self.cut_off(&error),
            Err(_) => return self.cut_off(&"the database does not answer"),
        };
        self.is_cut_off = false;
        self.stop_lost(&view);
        self.held_until.send_replace(asked + lease);
        let seen: Vec<(Bucket, Holder)> = view
            .buckets
            .iter()
            .map(|(bucket, holder, _)| (*bucket, *holder))
            .collect();
        let moves = moves(&seen, view.relays, view.rank);
        for bucket in &moves.release {
            if let Some(worker) = self.workers.get(bucket) {
                worker.stop.cancel();
            }
        }
        // Taken before, but the answer was lost.
        let released: BTreeSet<Bucket> = moves.release.into_iter().collect();
        for (bucket, holder, token) in &view.buckets {
            let is_mine = *holder == Holder::This && !released.contains(bucket);
            if is_mine && !self.workers.contains_key(bucket) {
                self.start(*bucket, *token);
            }
        }
        for bucket in moves.take {
            // A worker that has not ended yet has the bucket's producer.
            if self.workers.contains_key(&bucket) {
                continue;
            }
            match D::take(pool, table, &relay, bucket, lease).await {
                Ok(Some(token)) => self.start(bucket, token),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(outbox = %table, bucket, %error, "a bucket of the outbox cannot be taken");
                    break;
                }
            }
        }
        self.common.series.buckets(self.workers.len());
    }

    fn cut_off(&mut self, error: &dyn std::fmt::Display) {
        let table = self.common.outbox.table_name();
        if !std::mem::replace(&mut self.is_cut_off, true) {
            tracing::warn!(outbox = %table, %error,
                "the leases of the outbox cannot be renewed; nothing is published once they have expired");
        }
    }

    /// Workers whose bucket another relay has, or has had.
    fn stop_lost(&self, view: &View) {
        for (bucket, holder, token) in &view.buckets {
            if let Some(worker) = self.workers.get(bucket)
                && (*holder != Holder::This || *token != worker.token)
            {
                worker.stop.cancel();
            }
        }
    }

    fn start(&mut self, bucket: Bucket, token: i64) {
        let Some(wake) = self
            .wakes
            .get(usize::try_from(bucket).unwrap_or(usize::MAX))
        else {
            return;
        };
        let stop = CancellationToken::new();
        let lease = Lease {
            relay: self.relay.clone(),
            bucket,
            token,
        };
        let worker = BucketWorker::new(self.common.clone(), lease, stop.clone(), wake.clone());
        self.workers.insert(bucket, Worker { token, stop });
        self.tasks.spawn(async move {
            worker.run().await;
            bucket
        });
    }

    fn ended(&mut self, ended: Result<Bucket, JoinError>) -> Result<(), String> {
        let bucket = ended.map_err(text_of)?;
        self.workers.remove(&bucket);
        Ok(())
    }

    async fn end(mut self) -> Result<(), String> {
        for worker in self.workers.values() {
            worker.stop.cancel();
        }
        let lease = self.common.settings.lease;
        let mut renewal = tokio::time::interval(lease / 3);
        let (common, relay) = (self.common.clone(), self.relay.clone());
        let (pool, table) = (common.outbox.pool(), common.outbox.table_name());
        loop {
            tokio::select! {
                ended = self.tasks.join_next() => match ended {
                    Some(ended) => self.ended(ended)?,
                    None => break,
                },
                // What is being published may take longer than a lease.
                _ = renewal.tick() => {
                    let _ = tokio::time::timeout(lease, D::renew(pool, table, &relay, lease)).await;
                }
            }
        }
        common.series.buckets(0);
        if let Ok(Err(error)) = tokio::time::timeout(lease, D::leave(pool, table, &relay)).await {
            tracing::warn!(outbox = %table, %error, "a relay of the outbox ends without saying so; its leases expire");
        }
        Ok(())
    }
}

fn text_of(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            text.or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "without a text".to_owned())
        }
        Err(error) => error.to_string(),
    }
}

/// Wakes the workers of buckets that have new rows.
async fn listening<D: Database, K: Kafka>(
    common: Arc<Common<D, K>>,
    wakes: Arc<Vec<Arc<Notify>>>,
    end: CancellationToken,
) {
    let wake = |bucket: Option<Bucket>| match bucket {
        Some(bucket) => {
            let wake = wakes.get(usize::try_from(bucket).unwrap_or(usize::MAX));
            wake.into_iter().for_each(|wake| wake.notify_one());
        }
        None => wakes.iter().for_each(|wake| wake.notify_one()),
    };
    let (pool, table) = (common.outbox.pool(), common.outbox.table_name());
    let work = async {
        loop {
            if let Err(error) = D::listen(pool, table, wake).await {
                tracing::warn!(outbox = %table, %error,
                    "notifications of the outbox are not received; its rows are seen at the next poll");
            }
            tokio::time::sleep(LISTEN_AGAIN_AFTER).await;
        }
    };
    tokio::select! {
        () = end.cancelled() => {}
        () = work => {}
    }
}

/// Counts rows for the metrics, and deletes those that were kept for long enough.
async fn figures<D: Database, K: Kafka>(common: Arc<Common<D, K>>, end: CancellationToken) {
    let (pool, table) = (common.outbox.pool(), common.outbox.table_name());
    let work = async {
        let mut every = tokio::time::interval(FIGURES_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            match D::figures(pool, table).await {
                Ok(figures) => common.series.figures(&figures),
                Err(error) => tracing::debug!(outbox = %table, %error, "rows cannot be counted"),
            }
            let Some(keep) = common.settings.keep_sent else {
                continue;
            };
            loop {
                match D::clean(pool, table, keep).await {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) => {
                        tracing::warn!(outbox = %table, %error, "sent rows of the outbox cannot be deleted");
                        break;
                    }
                }
            }
        }
    };
    tokio::select! {
        () = end.cancelled() => {}
        () = work => {}
    }
}
