//! A topic, the members that come and go, and what they noted.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use keylane_core::{Evidence, Position, commit_map};
use keylane_integration_tests::{
    kafka::{Committed, Kafka, NewRecord, StoredRecord},
    members::poison::VARIABLE,
    protocol::Protocol,
    wait::{wait_for, wait_until},
};
use rustix::process::{Pid, Signal, kill_process};

/// For what takes seconds: a start with its rebalance.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
/// More would be a failure by itself.
const MOST_STARTS: usize = 20;

/// A topic with members that come and go.
pub(crate) struct Suite<'a> {
    pub(crate) kafka: &'a Kafka,
    pub(crate) topic: String,
    pub(crate) dead_letters: Option<String>,
    retries: bool,
    pub(crate) protocol: Protocol,
    /// A shutdown waits for what runs.
    pub(crate) patient: bool,
    directory: tempfile::TempDir,
}

impl<'a> Suite<'a> {
    pub(crate) async fn new(kafka: &'a Kafka, name: &str, partitions: i32) -> Self {
        let topic = kafka.unique(name);
        let dead_letters = format!("{topic}-dead");
        for topic in [&topic, &dead_letters] {
            kafka.create_topic(topic, partitions, 1, &[]).await.unwrap();
        }
        let directory = tempfile::tempdir().unwrap();
        let (dead_letters, protocol) = (Some(dead_letters), Protocol::Cooperative);
        Self {
            kafka,
            topic,
            dead_letters,
            retries: false,
            protocol,
            patient: false,
            directory,
        }
    }

    pub(crate) async fn with_retry_topic(mut self, partitions: i32) -> Self {
        self.kafka
            .create_topic(&format!("{}-retry", self.topic), partitions, 1, &[])
            .await
            .unwrap();
        self.retries = true;
        self
    }

    pub(crate) async fn write(&self, records: Vec<NewRecord>) {
        self.kafka.produce(&self.topic, records).await.unwrap();
    }

    /// A member. With a name it gets its partitions back at once when it starts again; without,
    /// they go to others.
    pub(crate) fn start(&self, member: Option<&str>) -> Running {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_member"));
        command.arg("poison");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let mut variables = vec![
            ("SERVERS", self.kafka.bootstrap_servers().to_owned()),
            ("TOPIC", self.topic.clone()),
            ("GROUP", self.group()),
            ("NOTES", self.notes_file().display().to_string()),
        ];
        // A broker does not let a new member of that name in before the dead one's session has
        // ended.
        let member = member.filter(|_| self.protocol != Protocol::Consumer);
        variables.extend(member.map(|name| ("MEMBER", name.to_owned())));
        variables.extend(
            (self.protocol == Protocol::Consumer).then(|| ("PROTOCOL", "consumer".to_owned())),
        );
        variables.extend(self.patient.then(|| ("PATIENT", "yes".to_owned())));
        variables.extend(
            self.dead_letters
                .iter()
                .map(|topic| ("DEAD_LETTERS", topic.clone())),
        );
        variables.extend(self.retries.then(|| ("RETRIES", "yes".to_owned())));
        command.envs(
            variables
                .into_iter()
                .map(|(name, value)| (format!("{VARIABLE}{name}"), value)),
        );
        Running(command.spawn().unwrap())
    }

    pub(crate) fn group(&self) -> String {
        format!("{}-group", self.topic)
    }

    /// Waits until a member that got SIGTERM has taken the mark of its only partition back, while
    /// its records run on.
    pub(crate) async fn mark_is_taken_back(&self) {
        wait_for("the mark is taken back", DEADLINE, async || {
            let committed = self
                .kafka
                .committed(&self.group(), &self.topic)
                .await
                .ok()?;
            evidence(&committed[0])
                .is_some_and(|evidence| evidence.is_empty())
                .then_some(())
        })
        .await;
    }

    fn notes_file(&self) -> PathBuf {
        self.directory.path().join("notes")
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    pub(crate) fn logged(&self, words: &str) -> bool {
        self.logs().contains(words)
    }

    pub(crate) fn logs(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// How often each line was noted.
    pub(crate) fn notes(&self) -> BTreeMap<String, usize> {
        let mut notes = BTreeMap::new();
        for line in fs::read_to_string(self.notes_file())
            .unwrap_or_default()
            .lines()
        {
            *notes.entry(line.to_owned()).or_default() += 1;
        }
        notes
    }

    pub(crate) fn done(&self) -> usize {
        self.notes()
            .keys()
            .filter(|line| line.starts_with("done "))
            .count()
    }

    /// How often a record was started.
    pub(crate) fn runs(&self, value: &str) -> usize {
        self.notes()
            .get(&format!("start {value}"))
            .copied()
            .unwrap_or(0)
    }

    pub(crate) async fn dead(&self) -> Vec<StoredRecord> {
        match &self.dead_letters {
            Some(topic) => {
                wait_for("the dead letters are read", DEADLINE, async || {
                    self.kafka.read_all(topic).await.ok()
                })
                .await
            }
            None => Vec::new(),
        }
    }

    /// Starts members, one after the other, until this many records are done and the killers are
    /// settled; returns the starts.
    pub(crate) async fn restart_until_done(&self, records: usize) -> usize {
        self.restart_until(async || self.done() == records).await
    }

    /// The same for any end.
    pub(crate) async fn restart_until(&self, is_over: impl AsyncFn() -> bool) -> usize {
        let mut took = Vec::new();
        for starts in 1..=MOST_STARTS {
            let began = Instant::now();
            let mut member = self.start(Some("one"));
            let died = wait_for(
                "a member dies or its work is over",
                DEADLINE,
                async || match member.died() {
                    Some(status) => Some(expect_killed(status)),
                    None => is_over().await.then_some(false),
                },
            )
            .await;
            took.push(began.elapsed());
            if !died {
                let all: Duration = took.iter().sum();
                eprintln!(
                    "{}: out of the way by start {starts}; the starts lasted {took:.1?}, {all:.1?} in all",
                    self.topic
                );
                member.terminate().await;
                return starts;
            }
        }
        panic!("not over after {MOST_STARTS} starts; log:\n{}", self.logs());
    }

    /// All dead letters are these, with the words of poison. Where another killer strikes before
    /// the settlement of one is committed, it is written again.
    pub(crate) async fn expect_poison(&self, values: &[&str]) {
        let wanted: Vec<_> = values.iter().map(|value| (*value).to_owned()).collect();
        let dead = wait_for("the dead letters are there", DEADLINE, async || {
            let dead = self.dead().await;
            (dead.len() >= wanted.len()).then_some(dead)
        })
        .await;
        let mut found: Vec<_> = dead
            .iter()
            .map(|record| String::from_utf8(record.value.clone().unwrap()).unwrap())
            .collect();
        found.sort();
        found.dedup();
        assert_eq!(found, wanted);
        for record in &dead {
            assert_eq!(record.header("keylane-reason"), Some("poison"));
            assert!(
                record
                    .header("keylane-error")
                    .unwrap()
                    .contains("the process ended 2 times"),
                "{record:?}"
            );
        }
        assert!(
            self.logged("poison: the process ended"),
            "nothing is logged"
        );
        // Of the dead letter, when it is acknowledged.
        let stated = "the process ended 2 times while this record was being processed";
        wait_until("the log states why", DEADLINE, || self.logged(stated)).await;
    }
}

/// The crash evidence of a commit. `None` where nothing is committed.
pub(crate) fn evidence(committed: &Committed) -> Option<Evidence> {
    let position = Position::new(committed.offset?);
    Some(
        commit_map::decode(position, &committed.metadata)
            .unwrap()
            .evidence,
    )
}

pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn died(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let _ = kill_process(Pid::from_raw(self.0.id().cast_signed()).unwrap(), signal);
    }

    pub(crate) async fn terminate(mut self) {
        self.signal(Signal::TERM);
        let status = wait_for("the member ends", DEADLINE, async || self.died()).await;
        assert!(status.success(), "{status}");
    }

    pub(crate) async fn kill(mut self) {
        self.signal(Signal::KILL);
        self.killed().await;
    }

    /// Waits until it is killed, by whatever.
    pub(crate) async fn killed(&mut self) {
        expect_killed(wait_for("the member is gone", DEADLINE, async || self.died()).await);
    }
}

/// `true`: it did not end by itself.
fn expect_killed(status: ExitStatus) -> bool {
    assert!(status.signal().is_some(), "{status}");
    true
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn record(partition: i32, key: &str, value: String) -> NewRecord {
    NewRecord {
        partition: Some(partition),
        ..NewRecord::keyed(key, value)
    }
}

/// This many records a partition, of ten keys each.
pub(crate) fn healthy(partitions: i32, each: usize) -> Vec<NewRecord> {
    let of = move |partition| {
        (0..each).map(move |id| {
            record(
                partition,
                &format!("{partition}-{}", id % 10),
                format!("good:{partition}-{id}"),
            )
        })
    };
    (0..partitions).flat_map(of).collect()
}
