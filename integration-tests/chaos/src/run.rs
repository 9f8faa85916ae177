//! One run: a seed, a group, a few minutes of trouble, and what is left when all is healed.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use keylane_integration_tests::kafka::{HarnessError, Kafka};
use tokio::time::sleep;

use crate::{
    conductor::{Conductor, create},
    evidence::{self, Evidence, PROGRAM, SCHEDULE, Source, read_origin, read_written},
    group::Group,
    journal::{Deed, Journal},
    load::{Load, Recipe},
    options::Options,
    programs::{Programs, Version},
    rebalances,
    sampler::Sampler,
    schedule::{Scene, Schedule},
    settings::{Common, Topics},
};

/// When a member of the classic protocol that is not heard of is out. The brokers of the harness give those of the other one
/// 5 s.
const SESSION_TIMEOUT_MS: u64 = 6_000;
/// Shorter than the longest work times ten, longer than any by far on an idle machine.
const ATTEMPT_TIMEOUT_MS: u64 = 2_000;
/// When the members are started again meanwhile: a record that was parked is tried again in a new epoch only.
const PARKED_PATIENCE: Duration = Duration::from_secs(50);
const LOOK: Duration = Duration::from_millis(250);

/// Why a run came to no result.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Something could not be done with the brokers.
    #[error(transparent)]
    Kafka(#[from] HarnessError),
    /// A client could not be made.
    #[error("cannot start the producer: {0}")]
    Client(#[from] rdkafka::error::KafkaError),
    /// Files or processes.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Members that do not end.
    #[error("members have not ended a minute after SIGTERM; their logs are in {}", .0.display())]
    MembersStay(PathBuf),
}

/// The schedule that `options` ask for, with so many brokers to break.
pub fn schedule(options: &Options, seed: u64, nodes: usize) -> Schedule {
    Schedule::new(seed, &scene(options, nodes)).with_least_drain_timeout(options.least_drain_timeout_ms)
}

fn scene(options: &Options, nodes: usize) -> Scene {
    let load = Duration::from_secs_f64(options.minutes.max(0.1) * 60.0);
    Scene { load, members: options.members, nodes, session_timeout_ms: SESSION_TIMEOUT_MS }
}

/// Runs `seed` and leaves journals and evidence in `directory`.
///
/// # Errors
/// When it comes to no end that could be checked.
pub async fn run(kafka: &Kafka, options: &Options, seed: u64, directory: &Path) -> Result<(), RunError> {
    let schedule = schedule(options, seed, kafka.own_nodes());
    carry_out(kafka, options, schedule, (Programs::of_this_version()?, Version::This), directory).await
}

/// Rolls a group from the version before to this one and back, under load, and leaves journals and evidence in `directory`.
///
/// # Errors
/// When it comes to no end that could be checked, or a version does not work in the group of the other.
pub async fn upgrade(
    kafka: &Kafka,
    options: &Options,
    seed: u64,
    programs: Programs,
    directory: &Path,
) -> Result<(), RunError> {
    let schedule = Schedule::upgrade(seed, &scene(options, 0));
    carry_out(kafka, options, schedule, (programs, Version::Before), directory).await
}

async fn carry_out(
    kafka: &Kafka,
    options: &Options,
    schedule: Schedule,
    programs: (Programs, Version),
    directory: &Path,
) -> Result<(), RunError> {
    let seed = schedule.seed;
    let members = evidence::members(directory);
    fs::create_dir_all(&members)?;
    fs::write(directory.join(SCHEDULE), serde_json::to_string_pretty(&schedule).map_err(std::io::Error::other)?)?;
    let deeds = Arc::new(Journal::open(&directory.join(PROGRAM))?);
    let common = Common {
        bootstrap_servers: kafka.bootstrap_servers().to_owned(),
        group: kafka.unique("chaos-group"),
        topics: Topics::named(kafka.unique("chaos")),
        protocol: options.protocol,
        session_timeout_ms: SESSION_TIMEOUT_MS,
        retry_topic: schedule.retry_topic,
        static_members: schedule.static_members,
        attempt_timeout_ms: ATTEMPT_TIMEOUT_MS,
    };
    let shape = (options.partitions, 3);
    for topic in common.topics.all() {
        create(kafka, topic, shape).await?;
    }
    let group = Group::start(common.clone(), schedule.tuning, options.members, programs, &members, deeds.clone());
    let load = Load::start(Recipe {
        bootstrap_servers: common.bootstrap_servers.clone(),
        topic: common.topics.origin.clone(),
        seed,
        rate: options.rate,
        keys: options.keys,
        aborts_ms: schedule.aborts_ms.clone(),
    })?;
    let (stop, mut sampler) = (AtomicBool::new(false), Sampler::default());
    sampler.first_commit(kafka, &common.group, &common.topics).await?;
    let conductor =
        Conductor { kafka, group: &group, deeds: deeds.clone(), common: &common, shape, began: Instant::now() };

    let trouble = async {
        let until = conductor.began + Duration::from_millis(schedule.load_ms);
        let (struck, saved) = tokio::join!(conductor.strike_members(&schedule), conductor.strike_brokers(&schedule));
        tokio::time::sleep_until(until.into()).await;
        let written = load.stop().await;
        deeds.note(Deed::LoadStopped);
        eprintln!("{:>7} ms: healed; waiting for the group", conductor.began.elapsed().as_millis());
        conductor.await_replicas().await;
        conductor.mend_topics().await?;
        let quiet = until_quiet(&conductor, Duration::from_secs(options.quiet_deadline_seconds)).await;
        let gone = conductor.end_members().await;
        stop.store(true, Ordering::SeqCst);
        struck.and(saved).map(|saved| (saved, written, quiet, gone))
    };
    let (troubled, (), rebalances) = tokio::join!(
        trouble,
        sampler.watch(kafka, &common.group, &common.topics, &stop),
        rebalances::watch(kafka, &common.group, &stop)
    );
    let (mut dead_letters, written, (quiet_after, final_restart), gone) = troubled?;
    if !gone {
        return Err(RunError::MembersStay(members));
    }
    for source in [Source::Origin, Source::Retry] {
        sampler.look(kafka, &common.group, &common.topics, source).await?;
    }
    dead_letters.extend(read_written(kafka, &common.topics.dead).await?);
    let evidence = Evidence {
        produced: read_origin(kafka, &common.topics.origin).await?,
        acknowledged: written.acknowledged,
        refused: written.refused,
        retries: read_written(kafka, &common.topics.retry).await?,
        dead_letters,
        samples: sampler.samples,
        rebalances,
        unreadable: sampler.unreadable,
        quiet_after_ms: quiet_after.map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
        final_restart,
        members_failed: group.failed(),
        commit_grace_ms: options.commit_grace_ms,
        schedule,
        common,
    };
    evidence.save(directory)?;
    drop(group);
    for topic in evidence.common.topics.all() {
        // The next seed wants the brokers for itself; a topic that stays hurts nobody.
        let _ = kafka.delete_topic(topic).await;
    }
    Ok(())
}

/// Waits until the group has committed all there is; also says whether it took a restart of all members.
async fn until_quiet(conductor: &Conductor<'_>, deadline: Duration) -> (Option<Duration>, bool) {
    let (began, mut restarted) = (Instant::now(), false);
    while began.elapsed() < deadline {
        if is_quiet(conductor).await.unwrap_or(false) {
            return (Some(began.elapsed()), restarted);
        }
        if !restarted && began.elapsed() >= PARKED_PATIENCE {
            restarted = true;
            conductor.restart_all(&conductor.group.wanted()).await;
        }
        sleep(LOOK).await;
    }
    (None, restarted)
}

/// Whether the commits have reached the ends of the logs. The origin topic is looked at first, and once more at the end: what
/// it sends to the retry topic is there before it is committed here.
async fn is_quiet(conductor: &Conductor<'_>) -> Result<bool, HarnessError> {
    let Conductor { kafka, common, .. } = conductor;
    for topic in [&common.topics.origin, &common.topics.retry] {
        let committed = kafka.committed(&common.group, topic).await?;
        let ends = kafka.end_offsets(topic).await?;
        if committed.iter().zip(&ends).any(|(committed, end)| committed.offset.unwrap_or(0) < *end) {
            return Ok(false);
        }
    }
    Ok(true)
}
