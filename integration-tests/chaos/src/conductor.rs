//! Carries out the schedule.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use keylane_integration_tests::kafka::{HarnessError, Kafka, NewRecord};
use tokio::time::{sleep, sleep_until};

use crate::{
    cut_log::CutLog,
    downstream::Downstream,
    evidence::{PROBE, Written, read_written},
    group::{ENDS_AFTER_A_PANIC, Group},
    journal::{Deed, Journal},
    programs::Version,
    schedule::{BrokerBlow, MemberBlow, Schedule, SideBlow, Timed},
    settings::{Common, SHUTDOWN, Topics},
};

const LOOK: Duration = Duration::from_millis(50);
/// For a member to end in order: its shutdown, its two waits for brokers that are away, and a busy
/// machine.
const MEMBER_ENDS: Duration = Duration::from_secs(60);
/// For a broker to be back with all its replicas.
const BROKER_BACK: Duration = Duration::from_secs(120);
/// How long a rolling restart lets a member work before the next one goes.
const BETWEEN_RESTARTS: Duration = Duration::from_millis(1_500);
/// How long one stays away that was killed while the group was rolled.
const KILLED_FOR: Duration = Duration::from_millis(500);
/// For a group that was rolled to commit what was there then.
const PROGRESS: Duration = Duration::from_secs(120);
/// For a changed topic to be known to the leader of a partition.
const TOPIC_CHANGES: Duration = Duration::from_secs(60);

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

    async fn strike(&self, blow: &MemberBlow) -> Result<(), HarnessError> {
        let slots = self.group.wanted();
        let pick = |slot: usize| slots[slot % slots.len()];
        match *blow {
            MemberBlow::RollingRestart => self.restart_all(&slots).await,
            MemberBlow::Roll { version, kills } => {
                self.roll(version, kills, &slots).await;
                self.await_version(version, &slots).await?;
                self.await_progress().await?;
            }
            MemberBlow::Reconfigure(tuning) => {
                self.group.tune(tuning);
                self.restart_all(&slots).await;
            }
            MemberBlow::Kill { slot, away_ms } => {
                self.group.kill(pick(slot), Duration::from_millis(away_ms))
            }
            MemberBlow::KillTwo { slot, away_ms } => {
                for slot in [slot, slot + 1] {
                    self.group.kill(pick(slot), Duration::from_millis(away_ms));
                }
            }
            MemberBlow::Pause { slot, pause_ms } => {
                let slot = pick(slot);
                if self.group.pause(slot, true) {
                    sleep(Duration::from_millis(pause_ms)).await;
                    self.group.pause(slot, false);
                }
            }
            MemberBlow::Join { members } => self.group.join(members),
            MemberBlow::Leave { members } => {
                let leaving = &slots[slots.len() - members.min(slots.len().saturating_sub(2))..];
                self.group.leave(leaving);
            }
        }
        Ok(())
    }

    /// Replaces each member by one of that version. With `kills`, two are killed after each: one
    /// that was replaced and one that was not, where there is one. They are started again as what
    /// they were.
    async fn roll(&self, version: Version, kills: bool, slots: &[usize]) {
        self.group.set_version(version);
        for (index, &slot) in slots.iter().enumerate() {
            self.group.set_version_at(slot, version);
            self.restart_all(&[slot]).await;
            if kills {
                for victim in [slots[index / 2], slots[(index + 1) % slots.len()]] {
                    self.group.kill(victim, KILLED_FOR);
                    sleep(BETWEEN_RESTARTS).await;
                }
            }
        }
    }

    /// The node that leads the partition of the offsets topic that the group's commits are in.
    async fn coordinator(&self) -> Result<usize, HarnessError> {
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

    /// Until every place runs this version. A place without it refused its settings: its log has
    /// the reason.
    async fn await_version(&self, version: Version, slots: &[usize]) -> Result<(), HarnessError> {
        let given_up = Instant::now() + MEMBER_ENDS;
        loop {
            let other: Vec<_> = slots
                .iter()
                .filter(|&&slot| self.group.version(slot) != Some(version))
                .collect();
            if other.is_empty() {
                return Ok(());
            }
            if Instant::now() >= given_up {
                return Err(HarnessError::Deadline {
                    what: format!("all members ran the version {version:?}"),
                    after: MEMBER_ENDS,
                    last: format!(
                        "the places {other:?} do not; the logs of their members have the reason"
                    ),
                });
            }
            sleep(LOOK).await;
        }
    }

    /// Until the group has committed all that was in the origin topic at the call.
    async fn await_progress(&self) -> Result<(), HarnessError> {
        let (origin, began) = (&self.topics().origin, Instant::now());
        let ends = self.kafka.end_offsets(origin).await?;
        loop {
            let committed = self.kafka.committed(&self.common.group, origin).await?;
            let behind = committed
                .iter()
                .zip(&ends)
                .filter(|(committed, end)| committed.offset.unwrap_or(0) < **end);
            match behind.count() {
                0 => return Ok(()),
                behind if began.elapsed() >= PROGRESS => {
                    return Err(HarnessError::Deadline {
                        what: "the group had committed what was there when all members ran the version".to_owned(),
                        after: PROGRESS,
                        last: format!("{behind} partitions are behind"),
                    });
                }
                _ => sleep(LOOK).await,
            }
        }
    }

    /// Ends and starts each, one after the other. One that dies meanwhile is started by its
    /// supervisor.
    pub async fn restart_all(&self, slots: &[usize]) {
        self.restart_all_of(self.group, slots).await;
    }

    /// The same in one of the groups.
    pub async fn restart_all_of(&self, group: &Group, slots: &[usize]) {
        for &slot in slots {
            let old = group.name(slot);
            group.terminate(slot);
            let given_up = Instant::now() + MEMBER_ENDS;
            while (group.name(slot) == old || !group.runs(slot)) && Instant::now() < given_up {
                sleep(LOOK).await;
            }
            sleep(BETWEEN_RESTARTS).await;
        }
    }

    async fn without_broker(
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

    /// First the topic refuses all writes, so that all it ever held can be read before it is
    /// deleted. What is refused then is parked.
    async fn without_dead_letters(&self, away_ms: u64) -> Result<Vec<Written>, HarnessError> {
        let dead = &self.topics().dead;
        let what = "dead letters".to_owned();
        self.deeds.note(Deed::Out { what: what.clone() });
        self.refuse_writes(dead).await?;
        self.await_refusals(dead).await?;
        let saved = read_written(self.kafka, dead).await?;
        self.kafka.delete_topic(dead).await?;
        sleep(Duration::from_millis(away_ms)).await;
        create(self.kafka, dead, self.shape).await?;
        self.deeds.note(Deed::Back { what });
        Ok(saved)
    }

    async fn without_retries(&self, away_ms: u64) -> Result<(), HarnessError> {
        let retry = &self.topics().retry;
        let what = "retries".to_owned();
        self.deeds.note(Deed::Out { what: what.clone() });
        self.refuse_writes(retry).await?;
        sleep(Duration::from_millis(away_ms)).await;
        self.kafka
            .configure_topic(retry, &configs(self.shape))
            .await?;
        self.deeds.note(Deed::Back { what });
        Ok(())
    }

    async fn refuse_writes(&self, topic: &str) -> Result<(), HarnessError> {
        self.limit_messages(topic, "1").await
    }

    /// Until no partition takes anything. A write that is taken for lack of news would go with the
    /// topic, unread, and the run would prove nothing.
    async fn await_refusals(&self, topic: &str) -> Result<(), HarnessError> {
        for partition in 0..self.shape.0 {
            let began = Instant::now();
            let probe = NewRecord {
                partition: Some(partition),
                ..NewRecord::keyed(PROBE, PROBE)
            };
            while self.kafka.produce(topic, vec![probe.clone()]).await.is_ok() {
                if began.elapsed() >= TOPIC_CHANGES {
                    return Err(HarnessError::Deadline {
                        what: format!(
                            "{topic}[{partition}] refused every write, so that it could be deleted"
                        ),
                        after: TOPIC_CHANGES,
                        last: "a write was taken".to_owned(),
                    });
                }
                sleep(LOOK).await;
            }
        }
        Ok(())
    }

    /// Makes every topic accept writes again. A broker that was away while the topic was deleted
    /// and re-created may still apply the settings of the old one (Apache Kafka 4.2); a change
    /// makes it read them again.
    ///
    /// # Errors
    /// When a topic cannot be configured.
    pub async fn mend_topics(&self) -> Result<(), HarnessError> {
        let Topics { dead, retry, .. } = self.topics();
        for topic in [dead, retry] {
            self.limit_messages(topic, "1000000").await?;
        }
        Ok(())
    }

    async fn limit_messages(&self, topic: &str, bytes: &str) -> Result<(), HarnessError> {
        let configs = [
            configs(self.shape).to_vec(),
            vec![("max.message.bytes", bytes)],
        ]
        .concat();
        self.kafka.configure_topic(topic, &configs).await
    }

    /// Ends all members in order; `false` where some do not end.
    pub async fn end_members(&self) -> bool {
        let second = self.second.map(|(second, _)| second);
        let groups: Vec<&Group> = [self.group]
            .into_iter()
            .chain(second)
            .chain(self.cut.map(CutLog::group))
            .collect();
        for group in &groups {
            group.leave(&group.wanted());
        }
        // One that hangs after a panic is killed before that.
        let given_up = Instant::now() + MEMBER_ENDS.max(ENDS_AFTER_A_PANIC) + SHUTDOWN;
        while !groups.iter().all(|group| group.is_gone()) {
            if Instant::now() >= given_up {
                return false;
            }
            sleep(LOOK).await;
        }
        true
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

#[derive(Clone, Copy)]
enum Way {
    Killed,
    Stopped,
    Frozen,
}

fn io_error(doing: &str) -> impl FnOnce(std::io::Error) -> HarnessError {
    let doing = doing.to_owned();
    |source| HarnessError::Io { doing, source }
}

/// The partition of the offsets topic that a group's commits are in: Java's hash of its name.
fn partition_of(group: &str, partitions: usize) -> i32 {
    let hash = group.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    let partitions = i32::try_from(partitions.max(1)).unwrap_or(1);
    (hash & i32::MAX) % partitions
}

/// Creates a topic of the run.
///
/// # Errors
/// As [`Kafka::create_topic`].
pub async fn create(kafka: &Kafka, topic: &str, shape: (i32, i32)) -> Result<(), HarnessError> {
    kafka
        .create_topic(topic, shape.0, shape.1, &configs(shape))
        .await
}

/// Records of all topics carry the time at which they were appended, for the checks; and no
/// acknowledged record lies on one broker alone.
fn configs((_, replicas): (i32, i32)) -> [(&'static str, &'static str); 2] {
    [
        ("message.timestamp.type", "LogAppendTime"),
        ("min.insync.replicas", if replicas > 1 { "2" } else { "1" }),
    ]
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
