//! An epoch of a partition: what its owner starts from, and what it waits for before that.
//!
//! A partition that comes back to the same process waits until the attempts of its earlier epoch
//! have ended. A lost assignment drops attempts at once, but a drop is asynchronous. An attempt in
//! the middle of its poll goes on to its next await, and one that blocks its thread goes on as long
//! as it blocks. Without the wait, the next attempt of the partition would overlap with that one
//! (guarantee G2).

use std::sync::Arc;
use std::time::Duration;

use keylane_core::{Epoch, Evidence, LeaderEpoch, PartitionDirectives, Position, SettledMap};

use super::inbox::Inbox;
use super::own_orders::OwnOrders;
use super::progress::Progress;
use crate::metrics::PartitionMetrics;
use crate::processing::EpochLife;

/// Ordinary ends take microseconds. A longer wait is logged.
const WORTH_SAYING: Duration = Duration::from_secs(1);

/// What the owner of an epoch starts from.
pub(crate) struct EpochStart {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    pub(crate) epoch: Epoch,
    pub(crate) is_retry_topic: bool,
    /// The committed position, where there is one.
    pub(crate) start: Option<Position>,
    /// The leader epoch that was committed with it.
    pub(crate) start_under: Option<LeaderEpoch>,
    /// What earlier owners settled above it.
    pub(crate) settled: SettledMap,
    /// The highest leader epoch that they had read of what that names.
    pub(crate) leader_epoch: Option<LeaderEpoch>,
    /// How they ended, by [`Evidence::at_start`].
    pub(crate) evidence: Evidence,
    pub(crate) metrics: PartitionMetrics,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) progress: Arc<Progress>,
    /// The assignment, as dead letters name it.
    pub(crate) membership: Option<Arc<str>>,
    /// Where what operators order of this member alone is kept, and what of it holds from before.
    pub(crate) own_orders: Arc<OwnOrders>,
    pub(crate) inherited_orders: PartitionDirectives,
    /// Earlier epochs of this partition in this process, whose attempts may not have ended yet.
    pub(crate) predecessors: Vec<Arc<EpochLife>>,
}

/// Lets the owner of `inbox` start when all attempts of the earlier epochs have ended, without a
/// time limit. In that time the partition is polled, and can be given up.
pub(super) async fn wait(
    predecessors: Vec<Arc<EpochLife>>,
    topic: Arc<str>,
    partition: i32,
    inbox: Arc<Inbox>,
) {
    let life = inbox.life().clone();
    tokio::select! {
        () = all_gone(&predecessors, &topic, partition) => inbox.order(|orders| orders.waits_for_predecessors = false),
        () = life.over() => {}
    }
}

async fn all_gone(predecessors: &[Arc<EpochLife>], topic: &str, partition: i32) {
    let all_gone = async {
        for predecessor in predecessors {
            predecessor.gone().await;
        }
    };
    tokio::pin!(all_gone);
    if tokio::time::timeout(WORTH_SAYING, all_gone.as_mut())
        .await
        .is_err()
    {
        tracing::warn!(
            topic,
            partition,
            "the partition was lost and came back, but an attempt from before has not ended: a processor blocks its \
             thread (see spawn_blocking). The partition starts nothing until it does"
        );
        all_gone.await;
        tracing::info!(
            topic,
            partition,
            "the attempt from before has ended; the partition starts"
        );
    }
}
