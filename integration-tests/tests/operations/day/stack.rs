//! The stack of `docker/compose.yaml`, as far as the page needs it: its commands are those of the
//! page, its containers are processes of the test.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    ops::Deref,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use keylane_integration_tests::{
    kafka::Kafka,
    members::{
        day::Push,
        operations::{MINUTE, VARIABLE},
    },
    process::Process,
    wait::wait_for,
};
use operators_day::ParkingEvent;

use super::super::{
    prometheus::{Prometheus, free_address, get},
    scene::DEADLINE,
};
use super::page::Step;

pub(super) const TOPIC: &str = "parking-events";
pub(super) const RETRY: &str = "parking-events-retry";
pub(super) const DEAD: &str = "parking-events-dlq";
const CONTROL: &str = "parking-notifier-keylane-control";
const OPS: &str = "parking-notifier-keylane-ops";
const SETTINGS: &str = include_str!("../../../../examples/operators-day/settings.yaml");
/// What the page gives the address of, and the test has another one for.
const ADMIN: &str = "ADMIN";
/// Commands that only look are repeated until they show what the page shows.
const LOOKING: [&str; 9] = [
    "keylane lag ",
    "keylane oldest ",
    "keylane map ",
    "keylane control show ",
    "keylane dlq ls ",
    "keylane dlq show ",
    "keylane dlq stats ",
    "keylane dlq status ",
    "docker compose exec prometheus promtool query ",
];

pub(super) struct Stack<K> {
    pub(super) kafka: K,
    pub(super) prometheus: Prometheus,
    promtool: PathBuf,
    /// Where the command `keylane` is, and the files of the containers.
    directory: tempfile::TempDir,
    metrics: SocketAddr,
    admin: SocketAddr,
    environment: BTreeMap<String, String>,
    pushes: Arc<Mutex<Vec<Push>>>,
    service: Option<Service>,
    /// When the service was started again: what was pushed before, and what lies in the topic.
    restart: Option<(usize, BTreeSet<u64>)>,
}

struct Service {
    process: Process,
    reader: JoinHandle<()>,
}

impl<K: Deref<Target = Kafka>> Stack<K> {
    pub(super) async fn new(kafka: K, prometheus: &Path, promtool: PathBuf) -> Self {
        // A Kafka of an earlier run may have them; without, the broker refuses that.
        for topic in [TOPIC, RETRY, DEAD, CONTROL, OPS] {
            let _ = kafka.delete_topic(topic).await;
        }
        let compact = ("cleanup.policy", "compact");
        kafka.create_topic(CONTROL, 1, 1, &[compact]).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        symlink(
            env!("CARGO_BIN_EXE_member"),
            directory.path().join("keylane"),
        )
        .unwrap();
        Self {
            prometheus: Prometheus::start(prometheus).await,
            kafka,
            promtool,
            directory,
            metrics: free_address(),
            admin: free_address(),
            environment: BTreeMap::new(),
            pushes: Arc::default(),
            service: None,
            restart: None,
        }
    }

    /// Runs the commands of a block, and compares with what the page shows. Its last commands, as
    /// far as they only look, are repeated until they show that.
    pub(super) async fn take(&mut self, step: &Step) {
        let is_looking = |line: &String| LOOKING.iter().any(|look| line.starts_with(look));
        let acts = step.commands.iter().rposition(|line| !is_looking(line));
        let (acts, looks) = step.commands.split_at(acts.map_or(0, |index| index + 1));
        let code_of_acts = if looks.is_empty() { step.exit_code } else { 0 };
        let acted = self.run(acts, code_of_acts).await;
        let acted =
            acted.unwrap_or_else(|problem| panic!("{problem}; the service:\n{}", self.log()));
        let started = Instant::now();
        loop {
            let printed = self.run(looks, step.exit_code).await;
            let problem = match printed.map(|looked| acted.clone() + &looked) {
                Err(problem) => problem,
                Ok(printed) => match step.missing_in(&printed) {
                    None => return,
                    Some(line) => format!("the page shows\n{line}\nand it prints\n{printed}"),
                },
            };
            assert!(
                !looks.is_empty() && started.elapsed() < DEADLINE,
                "{:?}: {problem}; the service:\n{}",
                step.commands,
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// What the commands print; an error where the last one does not end with this code, or another
    /// one not with 0.
    async fn run(&mut self, commands: &[String], exit_code: i32) -> Result<String, String> {
        let mut printed = String::new();
        for (index, line) in commands.iter().enumerate() {
            let words: Vec<&str> = line.split(' ').collect();
            let (code, text) = match &words[..] {
                ["export", assignments @ ..] => {
                    self.export(assignments);
                    (0, String::new())
                }
                ["docker", "compose", rest @ ..] => self.compose(line, rest).await,
                ["keylane", ..] => self.shell(line).await,
                _ => panic!("the test does not know how to run `{line}`"),
            };
            let is_last = index + 1 == commands.len();
            let expected = if is_last { exit_code } else { 0 };
            if code != expected {
                return Err(format!("`{line}` ends with {code}, and prints\n{text}"));
            }
            printed.push_str(&text);
        }
        Ok(printed)
    }

    /// The addresses are those of the test.
    fn export(&mut self, assignments: &[&str]) {
        for assignment in assignments {
            let (name, value) = assignment.split_once('=').unwrap();
            let value = match name {
                ADMIN => format!("http://{}", self.admin),
                _ => value.to_owned(),
            };
            self.environment.insert(name.to_owned(), value);
        }
    }

    /// What the page does with containers, done with processes.
    async fn compose(&mut self, line: &str, words: &[&str]) -> (i32, String) {
        match words {
            ["up", "--build", "--wait"] => self.start().await,
            ["start", "day"] => {
                let written = self.kafka.read_all(TOPIC).await.unwrap();
                let number = |value: &[u8]| {
                    let event: ParkingEvent = serde_json::from_slice(value).unwrap();
                    event.number
                };
                let written = written
                    .iter()
                    .map(|it| number(it.value.as_deref().unwrap()));
                self.restart = Some((self.pushes().len(), written.collect()));
                self.start().await;
            }
            ["stop", "day"] => self.stop().await,
            ["exec", "day", command @ ("touch" | "rm"), file] => {
                let file = self.in_the_container(file);
                let line = format!("{command} {}", file.display());
                return self.shell(&line).await;
            }
            ["exec", "prometheus", "promtool", ..] => {
                let (_, rest) = line.split_once("promtool").unwrap();
                let address = format!("http://{}", self.prometheus.address());
                let rest = rest.replace("http://localhost:9090", &address);
                let line = format!("{}{rest}", self.promtool.display());
                return self.shell(&line).await;
            }
            _ => panic!("the test does not know how to run `{line}`"),
        }
        (0, String::new())
    }

    fn in_the_container(&self, file: &str) -> PathBuf {
        let name = Path::new(file).file_name().unwrap();
        self.directory.path().join(name)
    }

    /// The exit code, and what it prints, in its order.
    async fn shell(&self, line: &str) -> (i32, String) {
        let path = std::env::var("PATH").unwrap();
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &format!("exec 2>&1\n{line}")])
            .stdin(Stdio::null())
            .env(
                "PATH",
                format!("{}:{path}", self.directory.path().display()),
            )
            .env("USER", "ann")
            .env("KEYLANE_BOOTSTRAP_SERVERS", self.kafka.bootstrap_servers())
            .envs(&self.environment);
        let output = tokio::task::spawn_blocking(move || shell.output());
        let Output { status, stdout, .. } = output.await.unwrap().unwrap();
        let printed = String::from_utf8(stdout).unwrap();
        (status.code().unwrap_or(-1), printed)
    }

    /// Returns when it is ready: only then is it scraped, as by a Prometheus that finds it late.
    async fn start(&mut self) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.directory.path().join("log"))
            .unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_member"))
            .arg("day")
            .env(format!("{VARIABLE}SETTINGS"), self.settings())
            .env(format!("{VARIABLE}METRICS"), self.metrics.to_string())
            .env(format!("{VARIABLE}ADMIN"), self.admin.to_string())
            .env(
                format!("{VARIABLE}OLD_BACKUP"),
                self.in_the_container("/tmp/old-backup"),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let pushes = self.pushes.clone();
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let push = serde_json::from_str(&line).unwrap();
                pushes.lock().unwrap().push(push);
            }
        });
        self.service = Some(Service {
            process: Process { child },
            reader,
        });
        // The stack's health check.
        wait_for("the service is ready", DEADLINE, async || {
            let (status, _) = get(self.admin, "/health/ready").await?;
            (status == 200).then_some(())
        })
        .await;
        self.prometheus.scrape(&[self.metrics]);
    }

    /// The settings file of the stack, with this Kafka and a minute of the rules.
    fn settings(&self) -> String {
        let mut settings: serde_json::Value = serde_norway::from_str(SETTINGS).unwrap();
        settings["bootstrap_servers"] = self.kafka.bootstrap_servers().into();
        let minute = format!("{}s", MINUTE.as_secs());
        settings["watchdog"] = serde_json::json!({ "stalled_after": minute });
        settings.to_string()
    }

    /// Ends it in order. The stack's Prometheus finds members by their name, which is gone then.
    async fn stop(&mut self) {
        self.prometheus.scrape(&[]);
        let Service { process, reader } = self.service.take().unwrap();
        let mut process = process;
        drop(process.child.stdin.take());
        let status = wait_for("the service has ended", DEADLINE, async || {
            process.child.try_wait().unwrap()
        });
        assert!(status.await.success(), "{}", self.log());
        tokio::task::spawn_blocking(|| reader.join())
            .await
            .unwrap()
            .unwrap();
    }

    pub(super) async fn end(mut self) {
        self.stop().await;
    }

    /// Every push, in their order.
    pub(super) fn pushes(&self) -> Vec<Push> {
        self.pushes.lock().unwrap().clone()
    }

    /// How many pushes there have been when one of a record is seen that was not written yet: what
    /// was pushed before this call is among them.
    pub(super) async fn pushes_after_now(&self) -> usize {
        let ends = self.kafka.end_offsets(TOPIC).await.unwrap();
        let is_new = |push: &Push| {
            push.topic == TOPIC && push.offset >= ends[usize::try_from(push.partition).unwrap()]
        };
        wait_for("what is written now is pushed", DEADLINE, async || {
            self.pushes().iter().position(is_new)
        })
        .await
    }

    pub(super) fn pushes_before_the_restart(&self) -> usize {
        self.restart.as_ref().unwrap().0
    }

    /// The numbers of the events that lay in the topic then.
    pub(super) fn written_before_the_restart(&self) -> BTreeSet<u64> {
        self.restart.as_ref().unwrap().1.clone()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}
