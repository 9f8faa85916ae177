//! What is broken when, made from the seed before anything starts.

use std::time::Duration;

use fastrand::Rng;
use serde::{Deserialize, Serialize};

use crate::{
    downstream::{Failing, Outage},
    planted::Planted,
    programs::Version,
    settings::Tuning,
};

/// The first blow falls on a group that works.
const QUIET_START_MS: u64 = 2_000;
/// The last blow is felt while there is still load.
const LAST_BLOW_MS: u64 = 8_000;
/// The kinds of a record's end beside success are in the values; those that end the process are
/// counted here, and rare: each takes a session time-out for each start.
const ABORTS_PER_MINUTE: f64 = 0.7;

/// What the processors wait for is available again this long before the last record.
const AFTER_AN_OUTAGE_MS: u64 = 4_000;
/// A cut takes two brokers away one after the other, which leaves little time for all else.
const SHORTEST_WITH_A_CUT_MS: u64 = 40_000;

/// Longer than an attempt that hangs, on a busy machine too.
const LONG_DRAIN_MS: u64 = 8_000;

/// Something that is done to the members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberBlow {
    /// All members are ended in order and started again, one after the other.
    RollingRestart,
    /// The same with other settings.
    Reconfigure(Tuning),
    /// The same with the program of another version. Carried out also when it comes late.
    Roll {
        /// Which.
        version: Version,
        /// Whether members of either version are killed while both are in the group.
        kills: bool,
    },
    /// `kill -9`; the supervisor starts it again after this time.
    Kill {
        /// Whom, modulo the members there are.
        slot: usize,
        /// How long it stays away.
        away_ms: u64,
    },
    /// `kill -9` for two at once.
    KillTwo {
        /// The first; the second is the next one.
        slot: usize,
        /// How long they stay away.
        away_ms: u64,
    },
    /// `SIGSTOP`, and `SIGCONT` after this time.
    Pause {
        /// Whom.
        slot: usize,
        /// How long it is stopped; mostly beyond the session time-out.
        pause_ms: u64,
    },
    /// More members, all at once.
    Join {
        /// How many.
        members: usize,
    },
    /// Members leave in order, all at once.
    Leave {
        /// How many at most; two remain.
        members: usize,
    },
}

/// Something that is done to brokers and topics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BrokerBlow {
    /// `kill -9` for a broker.
    Kill {
        /// Which node.
        node: usize,
        /// How long it stays away.
        away_ms: u64,
    },
    /// A broker is ended in order.
    Stop {
        /// Which node.
        node: usize,
        /// How long it stays away.
        away_ms: u64,
    },
    /// A broker freezes: its connections stay open and nothing answers.
    Freeze {
        /// Which node.
        node: usize,
        /// For how long.
        away_ms: u64,
    },
    /// Every partition gets another preferred leader, and it leads.
    MoveLeaders {
        /// How far the replicas are turned.
        by: usize,
    },
    /// The dead-letter topic is deleted, and re-created after this time.
    DeleteDeadLetters {
        /// How long it is gone.
        away_ms: u64,
    },
    /// The retry topic refuses every write for this time.
    RefuseRetries {
        /// How long.
        away_ms: u64,
    },
    /// The broker that leads most group coordinators is killed: they are away, and the rest serves.
    KillCoordinator {
        /// How long it stays away.
        away_ms: u64,
    },
    /// The log of the cut topic is cut: an unclean leader election.
    CutLog {
        /// Whether its group runs meanwhile; else it starts when the log has grown again.
        running: bool,
    },
}

/// Something that is done beside those.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SideBlow {
    /// A panic in one of keylane's own threads.
    Panic {
        /// The member whose process panics, modulo the number of members.
        slot: usize,
        /// Where.
        planted: Planted,
    },
    /// `kill -9` for a member of the second group.
    KillSecond {
        /// Whom, modulo the members there are.
        slot: usize,
        /// How long it stays away.
        away_ms: u64,
    },
}

/// A blow and when it falls, from the group's first commit on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timed<T> {
    /// When.
    pub at_ms: u64,
    /// What.
    pub blow: T,
}

/// All that a seed decides apart from the records' values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// The seed.
    pub seed: u64,
    /// How long records are written.
    pub load_ms: u64,
    /// Whether failures go to the retry topic before they are dead letters.
    pub retry_topic: bool,
    /// Whether members keep their places while they are started again.
    pub static_members: bool,
    /// The first settings of all members.
    pub tuning: Tuning,
    /// When a record is written that ends its process.
    pub aborts_ms: Vec<u64>,
    /// Blows to the members, each after the other is over.
    pub members: Vec<Timed<MemberBlow>>,
    /// Faults of brokers and topics, in the same way.
    pub brokers: Vec<Timed<BrokerBlow>>,
    /// For how long a record is retried before it is given up; by count where there is none.
    #[serde(default)]
    pub retry_time_ms: Option<u64>,
    /// When what the processors wait for is away.
    #[serde(default)]
    pub outages: Vec<Timed<Outage>>,
    /// What is done beside all that.
    #[serde(default)]
    pub beside: Vec<Timed<SideBlow>>,
    /// Whether a second group reads the same topics.
    #[serde(default)]
    pub second_group: bool,
}

/// What the schedule has to know beside the seed.
#[derive(Debug, Clone, Copy)]
pub struct Scene {
    /// How long records are written.
    pub load: Duration,
    /// Members of the group.
    pub members: usize,
    /// Brokers that may be broken; 0 where the program did not start them.
    pub nodes: usize,
    /// The session time-out.
    pub session_timeout_ms: u64,
    /// Whether there may be a second group.
    pub may_have_second: bool,
    /// Whether the log of a topic may be cut.
    pub may_cut: bool,
}

impl Schedule {
    /// The schedule of `seed`.
    pub fn new(seed: u64, scene: &Scene) -> Self {
        let rng = &mut Rng::with_seed(seed);
        let load_ms = u64::try_from(scene.load.as_millis()).unwrap_or(u64::MAX);
        let (retry_topic, static_members) = (rng.bool(), rng.u32(0..4) == 0);
        let tuning = tuning(rng);
        let aborts = (load_ms as f64 / 60_000.0 * ABORTS_PER_MINUTE).round() as usize;
        // Each needs its starts; one that comes late only keeps the end waiting.
        let mut aborts_ms: Vec<u64> = (0..rng.usize(0..=aborts))
            .map(|_| rng.u64(QUIET_START_MS..=(load_ms / 2).max(QUIET_START_MS)))
            .collect();
        aborts_ms.sort_unstable();
        let members = blows(rng, load_ms, 2_000..7_000, |rng| member_blow(rng, scene));
        let mut brokers = blows(rng, load_ms, 8_000..20_000, |rng| {
            broker_blow(rng, scene, retry_topic)
        });
        // Streams of their own: what they are is drawn later than what a seed has always been.
        let rng = &mut Rng::with_seed(seed ^ 0x0007_a6e0);
        let retry_time_ms = one_of(rng, &[None, Some(2_000), Some(10_000), Some(10_000)]);
        let second_group = scene.may_have_second && rng.bool();
        let outages = outages(rng, load_ms, retry_time_ms.is_some());
        let beside = blows(rng, load_ms, 5_000..14_000, |rng| {
            side_blow(rng, second_group)
        });
        if scene.may_cut && scene.nodes > 2 && load_ms >= SHORTEST_WITH_A_CUT_MS {
            let at_ms = rng.u64(QUIET_START_MS..load_ms / 3);
            brokers.push(Timed {
                at_ms,
                blow: BrokerBlow::CutLog {
                    running: rng.bool(),
                },
            });
            brokers.sort_by_key(|timed| timed.at_ms);
        }
        Self {
            seed,
            load_ms,
            retry_topic,
            static_members,
            tuning,
            aborts_ms,
            members,
            brokers,
            retry_time_ms,
            outages,
            beside,
            second_group,
        }
    }

    /// A group that is rolled from the version before to this one and back, with nothing else
    /// broken: each attempt may finish, so nothing may come twice; or, with `kills`, members of
    /// either version are killed while both are there. Failures go through the retry topic, so that
    /// each version reads what the other has written there. The rest is as the seed has it.
    pub fn upgrade(seed: u64, scene: &Scene, kills: bool) -> Self {
        let rolls =
            [Version::This, Version::Before].map(|version| MemberBlow::Roll { version, kills });
        let timed = |blow| Timed {
            at_ms: QUIET_START_MS,
            blow,
        };
        Self {
            seed,
            members: rolls.into_iter().map(timed).collect(),
            brokers: Vec::new(),
            aborts_ms: Vec::new(),
            retry_topic: true,
            retry_time_ms: None,
            outages: Vec::new(),
            beside: Vec::new(),
            second_group: false,
            ..Self::new(seed, scene).with_least_drain_timeout(LONG_DRAIN_MS)
        }
    }

    /// The same with drain time-outs that are nowhere shorter than this. Not drawn differently: a
    /// seed stays what it is.
    #[must_use]
    pub fn with_least_drain_timeout(mut self, millis: u64) -> Self {
        let changed = self
            .members
            .iter_mut()
            .filter_map(|timed| match &mut timed.blow {
                MemberBlow::Reconfigure(tuning) => Some(tuning),
                _ => None,
            });
        for tuning in changed.chain([&mut self.tuning]) {
            tuning.drain_timeout_ms = tuning.drain_timeout_ms.max(millis);
        }
        self
    }
}

/// Blow after blow with pauses between them. One lasts longer than its pause now and then; the next
/// one is late then.
fn blows<T>(
    rng: &mut Rng,
    load_ms: u64,
    pauses_ms: std::ops::Range<u64>,
    mut blow: impl FnMut(&mut Rng) -> T,
) -> Vec<Timed<T>> {
    let mut blows = Vec::new();
    let mut at_ms = QUIET_START_MS + rng.u64(0..2_000);
    while at_ms < load_ms.saturating_sub(LAST_BLOW_MS) {
        blows.push(Timed {
            at_ms,
            blow: blow(rng),
        });
        at_ms += rng.u64(pauses_ms.clone());
    }
    blows
}

/// One after the other, and over before the last record is written.
fn outages(rng: &mut Rng, load_ms: u64, by_time: bool) -> Vec<Timed<Outage>> {
    let mut outages = Vec::new();
    let mut at_ms = QUIET_START_MS + rng.u64(2_000..12_000);
    loop {
        let mut blow = Outage::draw(rng);
        if !by_time {
            // A few retries are used up before several keys have failed.
            blow.failing = Failing::Unavailable;
        }
        if at_ms + blow.lasts_ms + AFTER_AN_OUTAGE_MS > load_ms {
            return outages;
        }
        outages.push(Timed { at_ms, blow });
        at_ms += blow.lasts_ms + rng.u64(8_000..25_000);
    }
}

fn side_blow(rng: &mut Rng, second_group: bool) -> SideBlow {
    let slot = rng.usize(0..8);
    if second_group && rng.u32(0..100) < 25 {
        return SideBlow::KillSecond {
            slot,
            away_ms: rng.u64(100..4_000),
        };
    }
    SideBlow::Panic {
        slot,
        planted: one_of(rng, &Planted::ALL),
    }
}

fn tuning(rng: &mut Rng) -> Tuning {
    Tuning {
        concurrency: one_of(rng, &[2, 8, 16, 64]),
        commit_interval_ms: one_of(rng, &[200, 500, 1_000, 2_000]),
        // Shorter than some work, or longer than any: with and without a deadline that passes.
        drain_timeout_ms: one_of(rng, &[100, 3_000, 5_000]),
        pause_at_records: one_of(rng, &[100, 1_000, 10_000]),
        settled_ahead: one_of(rng, &[200, 100_000]),
    }
}

fn one_of<T: Copy>(rng: &mut Rng, values: &[T]) -> T {
    values[rng.usize(0..values.len())]
}

fn member_blow(rng: &mut Rng, scene: &Scene) -> MemberBlow {
    let slot = rng.usize(0..scene.members.max(1));
    let away_ms = rng.u64(100..4_000);
    match rng.u32(0..100) {
        0..15 => MemberBlow::RollingRestart,
        15..27 => MemberBlow::Reconfigure(tuning(rng)),
        27..52 => MemberBlow::Kill { slot, away_ms },
        52..58 => MemberBlow::KillTwo { slot, away_ms },
        58..68 => MemberBlow::Pause {
            slot,
            pause_ms: scene.session_timeout_ms + rng.u64(1_000..6_000),
        },
        68..75 => MemberBlow::Pause {
            slot,
            pause_ms: rng.u64(300..scene.session_timeout_ms / 2),
        },
        75..88 => MemberBlow::Join {
            members: rng.usize(1..4),
        },
        _ => MemberBlow::Leave {
            members: rng.usize(1..4),
        },
    }
}

fn broker_blow(rng: &mut Rng, scene: &Scene, retry_topic: bool) -> BrokerBlow {
    let away_ms = rng.u64(2_000..9_000);
    let node = rng.usize(0..scene.nodes.max(1));
    let kinds = if scene.nodes > 1 { 100 } else { 45 };
    match rng.u32(0..kinds) {
        0..15 => BrokerBlow::DeleteDeadLetters { away_ms },
        15..25 if retry_topic => BrokerBlow::RefuseRetries { away_ms },
        15..45 => BrokerBlow::MoveLeaders {
            by: rng.usize(1..3),
        },
        45..50 => BrokerBlow::KillCoordinator { away_ms },
        50..75 => BrokerBlow::Kill { node, away_ms },
        75..88 => BrokerBlow::Stop { node, away_ms },
        _ => BrokerBlow::Freeze {
            node,
            away_ms: away_ms.min(5_000),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use super::{BrokerBlow, Failing, MemberBlow, Scene, Schedule, Timed, Version};

    const SCENE: Scene = Scene {
        load: Duration::from_secs(90),
        members: 3,
        nodes: 3,
        session_timeout_ms: 6_000,
        may_have_second: true,
        may_cut: true,
    };

    #[test]
    fn a_seed_makes_the_same_schedule_each_time_and_another_one_another() {
        assert_eq!(Schedule::new(5, &SCENE), Schedule::new(5, &SCENE));
        assert_ne!(Schedule::new(5, &SCENE), Schedule::new(6, &SCENE));
    }

    #[test]
    fn a_schedule_is_read_as_it_was_written() {
        let schedule = Schedule::new(5, &SCENE);
        let text = serde_json::to_string(&schedule).unwrap();
        assert_eq!(serde_json::from_str::<Schedule>(&text).unwrap(), schedule);
    }

    #[test]
    fn drain_timeouts_can_be_made_longer_and_nothing_else_changes() {
        let (mut drawn, mut longer) = (BTreeSet::new(), BTreeSet::new());
        for seed in 0..200 {
            let schedule = Schedule::new(seed, &SCENE);
            assert_eq!(schedule.clone().with_least_drain_timeout(0), schedule);
            let patient = schedule.clone().with_least_drain_timeout(1_000);
            drawn.extend(drain_timeouts(&schedule));
            longer.extend(drain_timeouts(&patient));
            let all_the_same = |schedule: Schedule| schedule.with_least_drain_timeout(u64::MAX);
            assert_eq!(all_the_same(patient), all_the_same(schedule));
        }
        assert_eq!(
            (drawn, longer),
            ([100, 3_000, 5_000].into(), [1_000, 3_000, 5_000].into())
        );
    }

    #[test]
    fn an_upgrade_goes_there_and_back_and_breaks_nothing_else() {
        for seed in 0..50 {
            let schedule = Schedule::upgrade(seed, &SCENE, seed % 2 == 0);
            let blows: Vec<_> = schedule
                .members
                .iter()
                .map(|timed| timed.blow.clone())
                .collect();
            let roll = |version| MemberBlow::Roll {
                version,
                kills: seed % 2 == 0,
            };
            assert_eq!(blows, [roll(Version::This), roll(Version::Before)]);
            assert!(schedule.brokers.is_empty() && schedule.aborts_ms.is_empty());
            assert!(
                schedule.outages.is_empty() && schedule.beside.is_empty() && !schedule.second_group
            );
            assert!(schedule.retry_topic && schedule.tuning.drain_timeout_ms >= 8_000);
        }
    }

    #[test]
    fn outages_come_one_after_the_other_and_are_over_before_the_load_is() {
        let mut kinds = BTreeSet::new();
        for seed in 0..200 {
            let schedule = Schedule::new(seed, &SCENE);
            let mut last = 0;
            for Timed { at_ms, blow } in &schedule.outages {
                assert!(*at_ms > last && at_ms + blow.lasts_ms < schedule.load_ms);
                last = at_ms + blow.lasts_ms;
                // A count of retries may be used up before several keys have failed.
                assert!(schedule.retry_time_ms.is_some() || blow.failing == Failing::Unavailable);
                kinds.insert(format!("{:?} {:?}", blow.whose, blow.failing));
            }
            // Else records could be held for as long as they may be, and given up within an outage.
            let sum: u64 = schedule
                .outages
                .iter()
                .map(|timed| timed.blow.lasts_ms)
                .sum();
            assert!(sum < 30_000, "{sum}");
        }
        assert_eq!(kinds.len(), 6);
    }

    #[test]
    fn there_is_one_cut_and_no_second_group_where_that_is_not_wanted() {
        for seed in 0..50 {
            let cuts = |schedule: &Schedule| {
                schedule
                    .brokers
                    .iter()
                    .filter(|timed| matches!(timed.blow, BrokerBlow::CutLog { .. }))
                    .count()
            };
            assert_eq!(cuts(&Schedule::new(seed, &SCENE)), 1);
            let plain = Schedule::new(
                seed,
                &Scene {
                    may_have_second: false,
                    may_cut: false,
                    ..SCENE
                },
            );
            assert_eq!((cuts(&plain), plain.second_group), (0, false));
            assert_eq!(plain.members, Schedule::new(seed, &SCENE).members);
        }
    }

    fn drain_timeouts(schedule: &Schedule) -> Vec<u64> {
        let changed = schedule
            .members
            .iter()
            .filter_map(|timed| match &timed.blow {
                MemberBlow::Reconfigure(tuning) => Some(tuning.drain_timeout_ms),
                _ => None,
            });
        changed.chain([schedule.tuning.drain_timeout_ms]).collect()
    }

    #[test]
    fn the_brokers_of_somebody_else_are_left_alone() {
        for seed in 0..200 {
            let schedule = Schedule::new(seed, &Scene { nodes: 0, ..SCENE });
            let touches = |blow: &BrokerBlow| {
                !matches!(
                    blow,
                    BrokerBlow::DeleteDeadLetters { .. }
                        | BrokerBlow::RefuseRetries { .. }
                        | BrokerBlow::MoveLeaders { .. }
                )
            };
            assert!(!schedule.brokers.iter().any(|timed| touches(&timed.blow)));
        }
    }
}
