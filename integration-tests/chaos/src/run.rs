//! One run: a seed, a group, a few minutes of trouble, and what is left when all is healed.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use keylane_integration_tests::kafka::{HarnessError, Kafka, NewRecord};
use tokio::time::sleep;

use crate::{
    conductor::{Conductor, create},
    cut_log::CutLog,
    downstream::Downstream,
    evidence::{self, Evidence, PROGRAM, SCHEDULE, Source, read_origin, read_written},
    fate::{Fate, Value},
    group::{Crew, Group},
    journal::{Deed, Journal},
    load::{Load, Recipe},
    options::Options,
    programs::{Programs, Version},
    rebalances,
    sampler::Sampler,
    schedule::{BrokerBlow, Scene, Schedule},
    settings::{Common, Topics},
};

/// The session time-out of members of the classic protocol. The brokers of the harness give those
/// of the other one 5 s.
const SESSION_TIMEOUT_MS: u64 = 6_000;
/// Shorter than the longest work times ten, longer than any by far on an idle machine.
const ATTEMPT_TIMEOUT_MS: u64 = 2_000;
/// How often good records are written while the group comes to rest.
const GOOD_RECORDS_EVERY: Duration = Duration::from_secs(6);
/// Their numbers are above all others.
const GOOD_RECORDS_FROM: u64 = 1_000_000_000;
/// Members of the second group.
const SECOND_MEMBERS: usize = 2;
/// When the members are started again meanwhile: a record that was parked is tried again in a new
/// epoch only. Longer than [`PATIENCE`](crate::settings::PATIENCE): before it is over, bad records that are
/// held would begin a member in which nothing succeeds, and be held without end.
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
    #[error("members have not ended long after SIGTERM; their logs are in {}", .0.display())]
    MembersStay(PathBuf),
}

/// The schedule of `options`, with this many brokers to break.
pub fn schedule(options: &Options, seed: u64, nodes: usize) -> Schedule {
    Schedule::new(seed, &scene(options, nodes))
        .with_least_drain_timeout(options.least_drain_timeout_ms)
}

fn scene(options: &Options, nodes: usize) -> Scene {
    let load = Duration::from_secs_f64(options.minutes.max(0.1) * 60.0);
    Scene {
        load,
        members: options.members,
        nodes,
        session_timeout_ms: SESSION_TIMEOUT_MS,
        may_have_second: !options.no_second_group,
        may_cut: !options.no_cuts,
    }
}

/// Runs `seed` and leaves journals and evidence in `directory`.
///
/// # Errors
/// When it comes to no end that could be checked.
pub async fn run(
    kafka: &Kafka,
    options: &Options,
    seed: u64,
    directory: &Path,
) -> Result<(), RunError> {
    let schedule = schedule(options, seed, kafka.own_nodes());
    carry_out(
        kafka,
        options,
        schedule,
        (Programs::of_this_version()?, Version::This),
        directory,
    )
    .await
}

/// Rolls a group from the version before to this one and back, under load, and leaves journals and
/// evidence in `directory`. With `kills`, members of either version are killed while both are
/// there.
///
/// # Errors
/// When it comes to no end that could be checked, or a version does not work in the group of the
/// other.
pub async fn upgrade(
    kafka: &Kafka,
    options: &Options,
    seed: u64,
    (programs, kills): (Programs, bool),
    directory: &Path,
) -> Result<(), RunError> {
    let schedule = Schedule::upgrade(seed, &scene(options, 0), kills);
    carry_out(
        kafka,
        options,
        schedule,
        (programs, Version::Before),
        directory,
    )
    .await
}

async fn carry_out(
    kafka: &Kafka,
    options: &Options,
    schedule: Schedule,
    programs: (Programs, Version),
    directory: &Path,
) -> Result<(), RunError> {
    let seed = schedule.seed;
    fs::create_dir_all(directory)?;
    fs::write(
        directory.join(SCHEDULE),
        serde_json::to_string_pretty(&schedule).map_err(std::io::Error::other)?,
    )?;
    let deeds = Arc::new(Journal::open(&directory.join(PROGRAM))?);
    let downstream = Downstream::of(directory);
    downstream.set(None)?;
    let common = Common {
        bootstrap_servers: kafka.bootstrap_servers().to_owned(),
        group: kafka.unique("chaos-group"),
        topics: Topics::named(kafka.unique("chaos")),
        protocol: options.protocol,
        session_timeout_ms: SESSION_TIMEOUT_MS,
        retry_topic: schedule.retry_topic,
        static_members: schedule.static_members,
        attempt_timeout_ms: ATTEMPT_TIMEOUT_MS,
        retry_time_ms: schedule.retry_time_ms,
    };
    let shape = (options.partitions, 3);
    for topic in common.topics.all() {
        create(kafka, topic, shape).await?;
    }
    let start = |common: &Common, directory: &Path, (members, prefix)| -> Result<Side, RunError> {
        let journals = evidence::members(directory);
        fs::create_dir_all(&journals)?;
        let crew = Crew {
            common: common.clone(),
            tuning: schedule.tuning,
            members,
            prefix,
            directory: &journals,
            downstream: downstream.clone(),
        };
        let group = Group::start(crew, programs.clone(), deeds.clone());
        Ok(Side {
            common: common.clone(),
            directory: directory.to_owned(),
            group,
        })
    };
    let mut sides = vec![start(&common, directory, (options.members, "m"))?];
    if schedule.second_group {
        let common = common.of_second_group();
        create(kafka, &common.topics.dead, shape).await?;
        sides.push(start(
            &common,
            &evidence::second(directory),
            (SECOND_MEMBERS, "s"),
        )?);
    }
    let cuts = schedule
        .brokers
        .iter()
        .any(|timed| matches!(timed.blow, BrokerBlow::CutLog { .. }));
    let cut = match cuts {
        true => {
            let programs = programs.0.clone();
            Some(
                CutLog::start(
                    kafka,
                    &common,
                    &schedule,
                    programs,
                    (directory, deeds.clone()),
                )
                .await?,
            )
        }
        false => None,
    };
    let mut load = Load::start(Recipe {
        bootstrap_servers: common.bootstrap_servers.clone(),
        topic: common.topics.origin.clone(),
        seed,
        rate: options.rate,
        keys: options.keys,
        aborts_ms: schedule.aborts_ms.clone(),
        all_work: false,
    })?;
    let (stop, mut samplers) = (AtomicBool::new(false), Vec::new());
    for side in &sides {
        let mut sampler = Sampler::default();
        sampler
            .first_commit(kafka, &side.common.group, &common.topics)
            .await?;
        samplers.push(sampler);
    }
    let second = sides.get(1).map(|side| (&side.group, &side.common));
    let began = Instant::now();
    let conductor = Conductor {
        kafka,
        group: &sides[0].group,
        second,
        cut: cut.as_ref(),
        downstream: &downstream,
        deeds: deeds.clone(),
        common: &common,
        shape,
        began,
    };

    let trouble = async {
        let until = began + Duration::from_millis(schedule.load_ms);
        let (struck, saved, beside, away) = tokio::join!(
            conductor.strike_members(&schedule),
            conductor.strike_brokers(&schedule),
            conductor.strike_beside(&schedule),
            conductor.strike_downstream(&schedule)
        );
        downstream.set(None)?;
        tokio::time::sleep_until(until.into()).await;
        let written = load.stop().await.unwrap_or_default();
        let written_to_cut = match &cut {
            Some(cut) => cut.stop_load().await,
            None => None,
        };
        deeds.note(Deed::LoadStopped);
        eprintln!(
            "{:>7} ms: healed; waiting for the group",
            began.elapsed().as_millis()
        );
        conductor.await_replicas().await;
        conductor.mend_topics().await?;
        let quiet = until_quiet(
            &conductor,
            Duration::from_secs(options.quiet_deadline_seconds),
        )
        .await;
        let gone = conductor.end_members().await;
        stop.store(true, Ordering::SeqCst);
        let saved = struck.and(beside).and(away).and(saved)?;
        if let Some(cut) = &cut {
            cut.evidence(kafka, written_to_cut).await?.save(directory)?;
        }
        Ok::<_, RunError>((saved, written, quiet, gone))
    };
    let watched = samplers.iter_mut().zip(&sides).map(|(sampler, side)| {
        let (group, topics, stop) = (&side.common.group, &common.topics, &stop);
        async move {
            let ((), rebalances) = tokio::join!(
                sampler.watch(kafka, group, topics, stop),
                rebalances::watch(kafka, group, stop)
            );
            rebalances
        }
    });
    // What fails early ends the watching too: its flag is never set then.
    let (troubled, rebalances) = tokio::join!(
        async {
            let troubled = trouble.await;
            stop.store(true, Ordering::SeqCst);
            troubled
        },
        futures::future::join_all(watched)
    );
    let (saved, written, (quiet_after, final_restart), gone) = troubled?;
    if !gone {
        return Err(RunError::MembersStay(directory.to_owned()));
    }
    let produced = read_origin(kafka, &common.topics.origin).await?;
    let retried = read_written(kafka, &common.topics.retry).await?;
    let mut saved = Some(saved);
    for ((side, mut sampler), rebalances) in sides.iter().zip(samplers).zip(rebalances) {
        for source in [Source::Origin, Source::Retry] {
            sampler
                .look(kafka, &side.common.group, &common.topics, source)
                .await?;
        }
        // Only the first one's topic is ever deleted.
        let mut dead_letters = saved.take().unwrap_or_default();
        dead_letters.extend(read_written(kafka, &side.common.topics.dead).await?);
        let (retries, foreign): (Vec<_>, Vec<_>) = retried
            .iter()
            .cloned()
            .partition(|retry| retry.group == side.common.group);
        let evidence = Evidence {
            produced: produced.clone(),
            acknowledged: written.acknowledged.clone(),
            refused: written.refused,
            retries,
            foreign_retries: foreign
                .into_iter()
                .map(|retry| (retry.partition, retry.offset))
                .collect(),
            dead_letters,
            samples: sampler.samples,
            rebalances,
            unreadable: sampler.unreadable,
            quiet_after_ms: quiet_after
                .map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
            final_restart,
            members_failed: side.group.failed(),
            commit_grace_ms: options.commit_grace_ms,
            schedule: schedule.clone(),
            common: side.common.clone(),
        };
        evidence.save(&side.directory)?;
    }
    // The next seed needs the brokers for itself; a topic that stays does no harm.
    for topic in sides
        .iter()
        .flat_map(|side| side.common.topics.all())
        .collect::<BTreeSet<_>>()
    {
        let _ = kafka.delete_topic(topic).await;
    }
    if let Some(cut) = cut {
        cut.delete(kafka).await;
    }
    Ok(())
}

/// A group of a run.
struct Side {
    common: Common,
    directory: PathBuf,
    group: Group,
}

/// Waits until the group has committed all there is; also returns whether it took a restart of all
/// members.
async fn until_quiet(conductor: &Conductor<'_>, deadline: Duration) -> (Option<Duration>, bool) {
    let (began, mut restarted) = (Instant::now(), false);
    let mut written = 0;
    while began.elapsed() < deadline {
        if began.elapsed() >= GOOD_RECORDS_EVERY * written {
            written += 1;
            // What cannot be written is written the next time.
            let _ = write_good_records(conductor, written).await;
        }
        if is_quiet(conductor).await.unwrap_or(false) {
            return (Some(began.elapsed()), restarted);
        }
        if !restarted && began.elapsed() >= PARKED_PATIENCE {
            restarted = true;
            let second = conductor.second.map(|(second, _)| second);
            for group in [conductor.group].into_iter().chain(second) {
                conductor.restart_all_of(group, &group.wanted()).await;
            }
        }
        sleep(LOOK).await;
    }
    (None, restarted)
}

/// A few for every partition. Where nothing but records that fail for good is left, nothing ever
/// succeeds, and that is an outage to keylane: it would hold them without end.
async fn write_good_records(conductor: &Conductor<'_>, burst: u32) -> Result<(), HarnessError> {
    let record = |partition: i32, number: u64| {
        let id = GOOD_RECORDS_FROM
            + u64::from(burst) * 10_000
            + u64::from(partition.unsigned_abs()) * 10
            + number;
        let value = Value {
            id,
            fate: Fate::Works(1),
        }
        .to_string();
        NewRecord {
            partition: Some(partition),
            ..NewRecord::keyed(format!("good-{partition}-{number}"), value)
        }
    };
    let records = (0..conductor.shape.0)
        .flat_map(|partition| (0..3).map(move |number| record(partition, number)));
    conductor
        .kafka
        .produce(&conductor.common.topics.origin, records.collect())
        .await
        .map(drop)
}

/// Whether the commits have reached the ends of the logs. The origin topic is looked at first, and
/// once more at the end: what it sends to the retry topic is there before it is committed here.
async fn is_quiet(conductor: &Conductor<'_>) -> Result<bool, HarnessError> {
    let Conductor {
        kafka,
        common,
        second,
        cut,
        ..
    } = conductor;
    for topic in [&common.topics.origin, &common.topics.retry] {
        for group in [&common.group]
            .into_iter()
            .chain(second.map(|(_, common)| &common.group))
        {
            let committed = kafka.committed(group, topic).await?;
            let ends = kafka.end_offsets(topic).await?;
            if committed
                .iter()
                .zip(&ends)
                .any(|(committed, end)| committed.offset.unwrap_or(0) < *end)
            {
                return Ok(false);
            }
        }
    }
    match cut {
        Some(cut) => cut.is_quiet(kafka).await,
        None => Ok(true),
    }
}
