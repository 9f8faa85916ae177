//! Looks whether the group rebalances, all the time.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use keylane_integration_tests::kafka::Kafka;

use crate::clock::{Nanos, now};

const INTERVAL: Duration = Duration::from_millis(500);

/// From the first look at which it did to the last, until `stop`. Only a group of the classic
/// protocol shows it. It runs beside other checks: with a broker away the answer may take long.
pub async fn watch(kafka: &Kafka, group: &str, stop: &AtomicBool) -> Vec<(Nanos, Nanos)> {
    let mut seen: Vec<(Nanos, Nanos)> = Vec::new();
    let mut lasts = false;
    while !stop.load(Ordering::SeqCst) {
        let state = kafka
            .group(group)
            .await
            .map(|group| group.state)
            .unwrap_or_default();
        let (at, before) = (now(), lasts);
        lasts = ["PreparingRebalance", "CompletingRebalance"].contains(&&*state);
        match seen.last_mut() {
            Some((_, until)) if lasts && before => *until = at,
            _ if lasts => seen.push((at, at)),
            _ => {}
        }
        tokio::time::sleep(INTERVAL).await;
    }
    seen
}
