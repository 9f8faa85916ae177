//! The blows to brokers.

use std::time::{Duration, Instant};

use keylane_integration_tests::kafka::HarnessError;
use tokio::time::sleep;

use super::{Conductor, LOOK};
use crate::{cut_log::CutLog, journal::Deed};

/// For a broker to be back with all its replicas.
const BROKER_BACK: Duration = Duration::from_secs(120);

#[derive(Clone, Copy)]
pub(super) enum Way {
    Killed,
    Stopped,
    Frozen,
}

impl Conductor<'_> {
    /// The node that leads the partition of the offsets topic that the group's commits are in.
    pub(super) async fn coordinator(&self) -> Result<usize, HarnessError> {
        let partitions = self.kafka.partitions("__consumer_offsets").await?;
        let partition = partition_of(&self.common.group, partitions.len());
        let leader = partitions
            .iter()
            .find(|state| state.partition == partition)
            .and_then(|state| state.leader);
        Ok(leader
            .and_then(|leader| self.kafka.node_of(leader))
            .unwrap_or(0))
    }

    pub(super) async fn without_broker(
        &self,
        node: usize,
        away_ms: u64,
        way: Way,
    ) -> Result<(), HarnessError> {
        let what = format!("broker {node}");
        self.deeds.note(Deed::Out { what: what.clone() });
        match way {
            Way::Killed => self.kafka.kill_node(node).await?,
            // One that does not end in time is killed, which serves as well.
            Way::Stopped => drop(self.kafka.stop_node(node).await),
            Way::Frozen => self.kafka.suspend_node(node).await?,
        }
        sleep(Duration::from_millis(away_ms)).await;
        match way {
            Way::Frozen => self.kafka.continue_node(node).await?,
            Way::Killed | Way::Stopped => self.kafka.start_node(node).await?,
        }
        self.await_replicas().await;
        self.deeds.note(Deed::Back { what });
        Ok(())
    }

    /// Until every partition has all its replicas again.
    pub async fn await_replicas(&self) {
        let given_up = Instant::now() + BROKER_BACK;
        let cut = self.cut.map(CutLog::topic);
        for topic in self.topics().all().into_iter().chain(cut) {
            while Instant::now() < given_up {
                let complete = self.kafka.partitions(topic).await.is_ok_and(|partitions| {
                    partitions.iter().all(|state| {
                        state.leader.is_some() && state.in_sync.len() == state.replicas.len()
                    })
                });
                if complete {
                    break;
                }
                sleep(LOOK).await;
            }
        }
    }
}

/// The partition of the offsets topic that a group's commits are in: Java's hash of its name.
fn partition_of(group: &str, partitions: usize) -> i32 {
    let hash = group.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    let partitions = i32::try_from(partitions.max(1)).unwrap_or(1);
    (hash & i32::MAX) % partitions
}

#[cfg(test)]
mod tests {
    use super::partition_of;

    #[test]
    fn a_group_is_in_the_partition_that_java_says() {
        // "group".hashCode() is 98629247, "polygenelubricants".hashCode() is the lowest number
        // there is.
        assert_eq!(partition_of("group", 4), 98_629_247 % 4);
        assert_eq!(partition_of("group", 50), 98_629_247 % 50);
        assert_eq!(partition_of("polygenelubricants", 4), 0);
    }
}
