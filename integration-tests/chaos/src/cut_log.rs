//! A topic whose log is cut, with a group and a load of its own: the other checks go by offsets,
//! and here offsets are used twice.
//!
//! Its partitions have two replicas, and an unclean election is allowed. One replica is away while
//! the other one takes records; then that one goes, and the first one, which lacks them, leads.
//! What the brokers lose like that is not keylane's. What is in the log in the end is.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use keylane_integration_tests::kafka::{HarnessError, Kafka};
use tokio::{sync::Mutex, time::sleep};

use crate::{
    downstream::Downstream,
    evidence::{self, Cuts, read_origin},
    group::{Crew, Group},
    journal::{Deed, Journal},
    load::{Load, Recipe, Written},
    programs::{Programs, Version},
    run::RunError,
    schedule::Schedule,
    settings::{Common, Topics},
};

const LOOK: Duration = Duration::from_millis(50);
const PARTITIONS: i32 = 2;
const MEMBERS: usize = 2;
const RATE: u64 = 40;
const KEYS: u64 = 20;
/// How long one replica takes records that the other one will lack.
const DOOMED: Duration = Duration::from_millis(3_500);
/// How long the other one takes records before the group starts again, so that the log is longer
/// than the group's position.
const GROWS: Duration = Duration::from_secs(7);
/// For a broker to be out, and for another one to lead.
const ELECTION: Duration = Duration::from_secs(60);

/// The topic, its group and its load.
#[derive(Debug)]
pub struct CutLog {
    common: Common,
    group: Group,
    load: Mutex<Load>,
}

impl CutLog {
    /// Creates the topic and starts group and load.
    ///
    /// # Errors
    /// When the brokers refuse it.
    pub async fn start(
        kafka: &Kafka,
        common: &Common,
        schedule: &Schedule,
        programs: Programs,
        (directory, deeds): (&Path, Arc<Journal>),
    ) -> Result<Self, RunError> {
        let common = Common {
            group: kafka.unique("cut-group"),
            topics: Topics::named(kafka.unique("cut")),
            retry_topic: false,
            static_members: false,
            ..common.clone()
        };
        let configs = [
            ("unclean.leader.election.enable", "true"),
            ("min.insync.replicas", "1"),
        ];
        for topic in [&common.topics.origin, &common.topics.dead] {
            kafka.create_topic(topic, PARTITIONS, 2, &configs).await?;
        }
        let load = Load::start(Recipe {
            bootstrap_servers: common.bootstrap_servers.clone(),
            topic: common.topics.origin.clone(),
            seed: schedule.seed,
            rate: RATE,
            keys: KEYS,
            aborts_ms: Vec::new(),
            all_work: true,
        })?;
        let members = evidence::members(&evidence::cut(directory));
        std::fs::create_dir_all(&members)?;
        let crew = Crew {
            common: common.clone(),
            tuning: schedule.tuning,
            members: MEMBERS,
            prefix: "c",
            directory: &members,
            // Nothing of it is ever away.
            downstream: Downstream::of(&evidence::cut(directory)),
        };
        Ok(Self {
            common,
            group: Group::start(crew, (programs, Version::This), deeds),
            load: Mutex::new(load),
        })
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.common.topics.origin
    }

    /// Its group.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// Cuts the log of the first partition, and of the other one where it lies on the same brokers.
    ///
    /// # Errors
    /// When the brokers do not come to that.
    pub async fn cut(
        &self,
        kafka: &Kafka,
        deeds: &Journal,
        running: bool,
    ) -> Result<(), HarnessError> {
        let state = self
            .await_partition(kafka, "both replicas are in sync", |_, in_sync| {
                in_sync == 2
            })
            .await?;
        let leader = state.0;
        let node = |id: i32| kafka.node_of(id).unwrap_or(0);
        let follower = state
            .1
            .into_iter()
            .find(|&id| id != leader)
            .unwrap_or(leader);
        let (doomed, next) = (node(leader), node(follower));
        let name = |node: usize| format!("broker {node}");
        deeds.note(Deed::Out { what: name(next) });
        kafka.kill_node(next).await?;
        self.await_partition(kafka, "one replica is alone", |_, in_sync| in_sync == 1)
            .await?;
        sleep(DOOMED).await;
        let places = self.group.wanted();
        if !running {
            self.group.leave(&places);
            self.await_gone().await?;
        }
        deeds.note(Deed::Out { what: name(doomed) });
        kafka.kill_node(doomed).await?;
        kafka.start_node(next).await?;
        self.await_partition(kafka, "the other replica leads", |leads, _| {
            leads == follower
        })
        .await?;
        eprintln!("           the log of {} is cut", self.topic());
        if !running {
            sleep(GROWS).await;
            self.group.join(places.len());
        }
        kafka.start_node(doomed).await?;
        self.await_partition(kafka, "both replicas are in sync again", |_, in_sync| {
            in_sync == 2
        })
        .await?;
        for node in [next, doomed] {
            deeds.note(Deed::Back { what: name(node) });
        }
        Ok(())
    }

    /// Ends the load.
    pub async fn stop_load(&self) -> Option<Written> {
        self.load.lock().await.stop().await
    }

    /// Whether all that is in the log is committed.
    ///
    /// # Errors
    /// When the brokers do not answer.
    pub async fn is_quiet(&self, kafka: &Kafka) -> Result<bool, HarnessError> {
        let committed = kafka.committed(&self.common.group, self.topic()).await?;
        let ends = kafka.end_offsets(self.topic()).await?;
        Ok(committed
            .iter()
            .zip(&ends)
            .all(|(committed, end)| committed.offset.unwrap_or(0) >= *end))
    }

    /// What is left in the end.
    ///
    /// # Errors
    /// When the topic cannot be read.
    pub async fn evidence(
        &self,
        kafka: &Kafka,
        written: Option<Written>,
    ) -> Result<Cuts, HarnessError> {
        let committed = kafka
            .committed(&self.common.group, self.topic())
            .await?
            .into_iter();
        let dead_letters = evidence::read_written(kafka, &self.common.topics.dead).await?;
        Ok(Cuts {
            log: read_origin(kafka, self.topic()).await?,
            committed: committed
                .map(|committed| (committed.partition, committed.offset.unwrap_or(0)))
                .collect(),
            acknowledged: written
                .map(|written| written.acknowledged)
                .unwrap_or_default(),
            dead_letters,
        })
    }

    /// Deletes the topics.
    pub async fn delete(&self, kafka: &Kafka) {
        for topic in [&self.common.topics.origin, &self.common.topics.dead] {
            let _ = kafka.delete_topic(topic).await;
        }
    }

    /// The leader and the replicas of the first partition, once leader and number of replicas in
    /// sync are as they are to be.
    async fn await_partition(
        &self,
        kafka: &Kafka,
        what: &str,
        is_so: impl Fn(i32, usize) -> bool,
    ) -> Result<(i32, Vec<i32>), HarnessError> {
        let began = Instant::now();
        loop {
            let seen = kafka.partitions(self.topic()).await;
            let first = seen.iter().flatten().find(|state| state.partition == 0);
            if let Some(first) = first
                && let Some(leader) = first.leader
                && is_so(leader, first.in_sync.len())
            {
                return Ok((leader, first.replicas.clone()));
            }
            if began.elapsed() >= ELECTION {
                let (what, last) = (format!("{what} in {}", self.topic()), format!("{seen:?}"));
                return Err(HarnessError::Deadline {
                    what,
                    after: ELECTION,
                    last,
                });
            }
            sleep(LOOK).await;
        }
    }

    async fn await_gone(&self) -> Result<(), HarnessError> {
        let began = Instant::now();
        while !self.group.is_gone() {
            if began.elapsed() >= ELECTION {
                let what = "the members of the cut topic had ended".to_owned();
                return Err(HarnessError::Deadline {
                    what,
                    after: ELECTION,
                    last: "they have not".to_owned(),
                });
            }
            sleep(LOOK).await;
        }
        Ok(())
    }
}
