//! A partition that comes back to the process it was taken from waits until that has really let go
//! of it.
//!
//! A lost assignment drops attempts at once, but a drop is asynchronous: an attempt in the middle
//! of its poll goes on to its next await, and one that blocks its thread as long as it blocks. Were
//! the same partition assigned again meanwhile, its next attempt would overlap with that one, in
//! one process (guarantee G2).

use std::sync::Arc;
use std::time::Duration;

use super::inbox::Inbox;
use crate::processing::EpochLife;

/// Ordinary ends take microseconds. Whoever waits longer says so.
const WORTH_SAYING: Duration = Duration::from_secs(1);

/// Lets the owner of `inbox` start when all attempts of the earlier epochs have ended, however long
/// that takes: the partition waits, is polled, and can be given up meanwhile.
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
