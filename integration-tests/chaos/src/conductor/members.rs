//! The blows to the members.

use std::time::{Duration, Instant};

use keylane_integration_tests::kafka::HarnessError;
use tokio::time::sleep;

use super::{Conductor, LOOK};
use crate::{
    cut_log::CutLog,
    group::{ENDS_AFTER_A_PANIC, Group},
    programs::Version,
    schedule::MemberBlow,
    settings::SHUTDOWN,
};

/// For a member to end in order: its shutdown, its two waits for brokers that are away, and a busy
/// machine.
const MEMBER_ENDS: Duration = Duration::from_secs(60);
/// How long a rolling restart lets a member work before the next one goes.
const BETWEEN_RESTARTS: Duration = Duration::from_millis(1_500);
/// How long one stays away that was killed while the group was rolled.
const KILLED_FOR: Duration = Duration::from_millis(500);
/// For a group that was rolled to commit what was there then.
const PROGRESS: Duration = Duration::from_secs(120);

impl Conductor<'_> {
    pub(super) async fn strike(&self, blow: &MemberBlow) -> Result<(), HarnessError> {
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
}
