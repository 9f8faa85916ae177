//! Carries out the schedule.

mod brokers;
mod members;
mod topics;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use keylane_integration_tests::kafka::{HarnessError, Kafka};
use tokio::time::{sleep, sleep_until};

use crate::{
    cut_log::CutLog,
    downstream::Downstream,
    evidence::Written,
    group::Group,
    journal::{Deed, Journal},
    schedule::{BrokerBlow, MemberBlow, Schedule, SideBlow, Timed},
    settings::{Common, Topics},
};
use brokers::Way;
pub use topics::create;

const LOOK: Duration = Duration::from_millis(50);

/// What is needed to break things.
pub struct Conductor<'a> {
    /// The brokers.
    pub kafka: &'a Kafka,
    /// The members.
    pub group: &'a Group,
    /// Those of a second group on the same topics, if there is one, and what they have in common.
    pub second: Option<(&'a Group, &'a Common)>,
    /// The topic whose log is cut, if there is one, and its group.
    pub cut: Option<&'a CutLog>,
    /// What the processors wait for.
    pub downstream: &'a Downstream,
    /// Where it is noted.
    pub deeds: Arc<Journal>,
    /// What the members have in common.
    pub common: &'a Common,
    /// The partitions of each topic, and their replicas.
    pub shape: (i32, i32),
    /// When the load began.
    pub began: Instant,
}

impl Conductor<'_> {
    /// The blows to the members.
    ///
    /// # Errors
    /// When the group does not work with another version.
    pub async fn strike_members(&self, schedule: &Schedule) -> Result<(), HarnessError> {
        for Timed { at_ms, blow } in &schedule.members {
            self.wait_until(*at_ms).await;
            let is_a_roll = matches!(blow, MemberBlow::Roll { .. });
            if self.is_over(schedule) && !is_a_roll {
                break;
            }
            eprintln!("{:>7} ms: {blow:?}", self.began.elapsed().as_millis());
            self.strike(blow).await?;
        }
        Ok(())
    }

    /// The blows to brokers and topics; returns the dead letters that were in a topic before it was
    /// deleted.
    ///
    /// # Errors
    /// When something cannot be broken or mended.
    pub async fn strike_brokers(&self, schedule: &Schedule) -> Result<Vec<Written>, HarnessError> {
        let mut saved = Vec::new();
        for Timed { at_ms, blow } in &schedule.brokers {
            self.wait_until(*at_ms).await;
            if self.is_over(schedule) {
                break;
            }
            eprintln!("{:>7} ms: {blow:?}", self.began.elapsed().as_millis());
            match *blow {
                BrokerBlow::Kill { node, away_ms } => {
                    self.without_broker(node, away_ms, Way::Killed).await?
                }
                BrokerBlow::Stop { node, away_ms } => {
                    self.without_broker(node, away_ms, Way::Stopped).await?
                }
                BrokerBlow::Freeze { node, away_ms } => {
                    self.without_broker(node, away_ms, Way::Frozen).await?
                }
                BrokerBlow::MoveLeaders { by } => {
                    for topic in self.topics().all() {
                        self.kafka.move_leaders(topic, by).await?;
                    }
                    self.deeds.note(Deed::LeadersMoved);
                }
                BrokerBlow::DeleteDeadLetters { away_ms } => {
                    saved.extend(self.without_dead_letters(away_ms).await?)
                }
                BrokerBlow::RefuseRetries { away_ms } => self.without_retries(away_ms).await?,
                BrokerBlow::KillCoordinator { away_ms } => {
                    let node = self.coordinator().await?;
                    self.without_broker(node, away_ms, Way::Killed).await?;
                }
                BrokerBlow::CutLog { running } => {
                    if let Some(cut) = self.cut {
                        cut.cut(self.kafka, &self.deeds, running).await?;
                        self.await_replicas().await;
                    }
                }
            }
        }
        Ok(saved)
    }

    /// What is done beside those.
    ///
    /// # Errors
    /// When it cannot be done.
    pub async fn strike_beside(&self, schedule: &Schedule) -> Result<(), HarnessError> {
        for Timed { at_ms, blow } in &schedule.beside {
            self.wait_until(*at_ms).await;
            if self.is_over(schedule) {
                break;
            }
            eprintln!("{:>7} ms: {blow:?}", self.began.elapsed().as_millis());
            match *blow {
                SideBlow::Panic { slot, planted } => {
                    let slots = self.group.wanted();
                    let planted = self.group.plant(slots[slot % slots.len()], planted);
                    planted.map_err(io_error("plant a panic"))?;
                }
                SideBlow::KillSecond { slot, away_ms } => {
                    if let Some((second, _)) = self.second {
                        let slots = second.wanted();
                        second.kill(slots[slot % slots.len()], Duration::from_millis(away_ms));
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes away what the processors wait for, and brings it back.
    ///
    /// # Errors
    /// When that cannot be written.
    pub async fn strike_downstream(&self, schedule: &Schedule) -> Result<(), HarnessError> {
        for Timed { at_ms, blow } in &schedule.outages {
            self.wait_until(*at_ms).await;
            if self.is_over(schedule) {
                break;
            }
            eprintln!("{:>7} ms: {blow:?}", self.began.elapsed().as_millis());
            self.deeds.note(Deed::Away { outage: *blow });
            self.downstream
                .set(Some(*blow))
                .map_err(io_error("name what is away"))?;
            sleep(Duration::from_millis(blow.lasts_ms)).await;
            self.downstream
                .set(None)
                .map_err(io_error("name what is away"))?;
            self.deeds.note(Deed::Healed);
        }
        Ok(())
    }

    async fn wait_until(&self, at_ms: u64) {
        sleep_until((self.began + Duration::from_millis(at_ms)).into()).await;
    }

    fn is_over(&self, schedule: &Schedule) -> bool {
        self.began.elapsed() >= Duration::from_millis(schedule.load_ms)
    }

    fn topics(&self) -> &Topics {
        &self.common.topics
    }
}

fn io_error(doing: &str) -> impl FnOnce(std::io::Error) -> HarnessError {
    let doing = doing.to_owned();
    |source| HarnessError::Io { doing, source }
}
