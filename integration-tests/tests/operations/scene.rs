//! A topic with gentle traffic, members in processes of their own, and a Prometheus that watches
//! them.

use std::{
    fs::{self, File},
    net::SocketAddr,
    ops::Deref,
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use keylane_integration_tests::{
    kafka::{Kafka, NewRecord},
    load::numbered,
    members::operations::{FLAKY, MINUTE, VARIABLE},
    wait::wait_for,
};
use tokio::task::JoinHandle;

use super::{
    prometheus::{Prometheus, Sample, free_address, get},
    rules::docker,
};

/// For what takes seconds, or some minutes of the rules.
pub(crate) const DEADLINE: Duration = Duration::from_secs(300);
pub(crate) const PARTITIONS: i32 = 4;
const KEYS: usize = 60;
/// Records written twice a second.
const BATCH: usize = 60;
/// In minutes of the rules: longer than every wait and every window but the hour's.
const SETTLED: u32 = 20;

pub(crate) struct Scene<K> {
    pub(crate) kafka: K,
    pub(crate) topic: String,
    pub(crate) group: String,
    pub(crate) prometheus: Prometheus,
    /// Where members serve their metrics, and their admin server.
    addresses: Vec<SocketAddr>,
    admin: Vec<SocketAddr>,
    directory: tempfile::TempDir,
    stop: Arc<AtomicBool>,
    traffic: Option<JoinHandle<()>>,
    /// Each member has an outbox, with its relay.
    has_outbox: bool,
}

impl<K: Deref<Target = Kafka> + Clone + Send + Sync + 'static> Scene<K> {
    /// A scene with places for this many members; none of them is started.
    pub(crate) async fn new(
        kafka: K,
        name: &str,
        prometheus: &std::path::Path,
        members: usize,
    ) -> Self {
        let topic = kafka.unique(name);
        let group = kafka.unique("parking-notifier");
        for topic in [topic.clone(), format!("{topic}-dead")] {
            kafka
                .create_topic(&topic, PARTITIONS, 1, &[])
                .await
                .unwrap();
        }
        let (control, compact) = (
            format!("{group}-keylane-control"),
            ("cleanup.policy", "compact"),
        );
        kafka
            .create_topic(&control, 1, 1, &[compact])
            .await
            .unwrap();
        let [addresses, admin] = [(); 2].map(|()| (0..members).map(|_| free_address()).collect());
        let prometheus = Prometheus::start(prometheus).await;
        let directory = tempfile::tempdir().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let traffic = Some(tokio::spawn(write(
            kafka.clone(),
            topic.clone(),
            stop.clone(),
        )));
        Self {
            kafka,
            topic,
            group,
            prometheus,
            addresses,
            admin,
            directory,
            stop,
            traffic,
            has_outbox: false,
        }
    }

    /// Members have an outbox each. Elsewhere its alerts would come beside those that are looked for.
    pub(crate) async fn with_outbox(self) -> Self {
        let topic = format!("{}-outbox", self.topic);
        self.kafka.create_topic(&topic, 1, 1, &[]).await.unwrap();
        Self {
            has_outbox: true,
            ..self
        }
    }

    /// Starts the member of that number. Prometheus scrapes those up to it.
    pub(crate) fn start(&self, number: usize) -> Member {
        self.prometheus.scrape(&self.addresses[..=number]);
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_member"));
        command.arg("operations");
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log);
        for (variable, value) in [
            ("SERVERS", self.kafka.bootstrap_servers().to_owned()),
            ("TOPIC", self.topic.clone()),
            ("GROUP", self.group.clone()),
            ("METRICS", self.addresses[number].to_string()),
            ("ADMIN", self.admin[number].to_string()),
            ("DIRECTORY", self.directory.path().display().to_string()),
            ("MEMBER", format!("member-{number}")),
        ] {
            command.env(format!("{VARIABLE}{variable}"), value);
        }
        if self.has_outbox {
            command.env(format!("{VARIABLE}OUTBOX"), "");
        }
        let mut child = command.spawn().unwrap();
        Member {
            input: child.stdin.take(),
            child,
        }
    }

    /// Something is wrong while the file is there.
    pub(crate) fn begin(&self, trouble: &str) {
        fs::write(self.directory.path().join(trouble), "").unwrap();
    }

    pub(crate) fn end(&self, trouble: &str) {
        fs::remove_file(self.directory.path().join(trouble)).unwrap();
    }

    pub(crate) async fn write(&self, partition: i32, key: &str, value: &str) {
        let record = NewRecord {
            partition: Some(partition),
            ..NewRecord::keyed(key, value)
        };
        self.kafka.produce(&self.topic, vec![record]).await.unwrap();
    }

    /// Records are done, in all partitions, and have been for as long as the longest of the usual
    /// windows looks back.
    pub(crate) async fn runs_well(&self) {
        self.runs_well_but_for(&[]).await;
    }

    /// The same where these alerts have fired.
    pub(crate) async fn runs_well_but_for(&self, alerts: &[&str]) {
        let (group, seconds) = (&self.group, (5 * MINUTE).as_secs());
        let query = format!(
            r#"count(sum by (partition) (rate(keylane_settled_total{{subscription="{group}", outcome="done"}}[{seconds}s])) > 1)
            and count(keylane_offset_lag_records{{subscription="{group}"}} offset {seconds}s) == {PARTITIONS}"#
        );
        wait_for("records of all partitions are done", DEADLINE, async || {
            let answer = self.prometheus.query(&query).await;
            (answer.first()?.value() as i32 == PARTITIONS).then_some(())
        })
        .await;
        assert_eq!(
            self.prometheus.fired().await,
            alerts,
            "nothing else is wrong yet; {}",
            self.explain().await
        );
    }

    /// All of `expected` come to fire, and nothing else does, also when the fault has lasted.
    pub(crate) async fn only(&self, expected: &[&str]) {
        self.only_beside(expected, &[]).await;
    }

    /// The same, where some others may fire and need not.
    pub(crate) async fn only_beside(&self, expected: &[&str], others: &[&str]) {
        let mut last = Vec::new();
        let outcome = tokio::time::timeout(DEADLINE, async {
            loop {
                last = self.prometheus.firing().await;
                if expected
                    .iter()
                    .all(|alert| last.iter().any(|firing| firing == alert))
                {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        })
        .await;
        assert!(
            outcome.is_ok(),
            "{expected:?} were to fire, {last:?} do; {}",
            self.explain().await
        );
        self.annotations_are_filled_in().await;
        // Whatever else this fault makes fire has had the time to.
        tokio::time::sleep(SETTLED * MINUTE).await;
        let fired = self.prometheus.fired().await;
        let unexpected = fired
            .iter()
            .filter(|alert| !others.contains(&alert.as_str()));
        assert_eq!(
            unexpected.collect::<Vec<_>>(),
            expected,
            "{}",
            self.explain().await
        );
    }

    /// The answer to a query as soon as there is one: a scrape that took too long leaves a gap.
    pub(crate) async fn answer(&self, query: &str) -> Vec<Sample> {
        wait_for(query, DEADLINE, async || {
            Some(self.prometheus.query(query).await).filter(|samples| !samples.is_empty())
        })
        .await
    }

    /// What the member of that number answers to the calls that a page of the runbook has people
    /// make, in their order.
    pub(crate) async fn calls_of(&self, page: &str, number: usize) -> Vec<serde_json::Value> {
        let page = fs::read_to_string(docker().join("runbook").join(page)).unwrap();
        let paths = page
            .lines()
            .filter_map(|line| line.strip_prefix("curl -s \"$ADMIN")?.split('"').next());
        let mut answers = Vec::new();
        for path in paths {
            let path = path.replace("NAME", &self.group);
            let (status, body) = get(self.admin[number], &path).await.unwrap();
            assert_eq!(status, 200, "{path}: {body}");
            answers.push(serde_json::from_str(&body).unwrap());
        }
        answers
    }

    /// No alert fires any longer.
    pub(crate) async fn calms_down(&self) {
        wait_for("the alerts have gone", DEADLINE, async || {
            self.prometheus.firing().await.is_empty().then_some(())
        })
        .await;
    }

    async fn annotations_are_filled_in(&self) {
        for (name, text) in self.prometheus.annotations().await.into_iter().flatten() {
            assert!(
                !text.contains("<no value>") && !text.contains("<error"),
                "{name}: {text}"
            );
        }
    }

    /// What may show the cause.
    async fn explain(&self) -> String {
        let mut text = String::new();
        for query in [
            "ALERTS",
            "up",
            "keylane_stalled",
            "keylane_workable_lag_records",
            "keylane_commit_failures_total > 0",
            "keylane_consumer_errors_total > 0",
            "sum by (result) (keylane_attempts_total)",
        ] {
            text.push_str(&format!("\n{query}\n"));
            for sample in self.prometheus.query(query).await {
                text.push_str(&format!("  {:?} {}\n", sample.metric, sample.value()));
            }
        }
        let log = self.logged();
        let lines: Vec<_> = log.lines().collect();
        text + &lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// What the members have logged.
    pub(crate) fn logged(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// Ends the traffic; members go before.
    pub(crate) async fn finish(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(traffic) = self.traffic.take() {
            traffic.await.unwrap();
        }
    }
}

/// A record in sixty needs a second attempt. What cannot be written, since the brokers are away, is
/// left out.
async fn write<K: Deref<Target = Kafka>>(kafka: K, topic: String, stop: Arc<AtomicBool>) {
    let mut tick = tokio::time::interval(Duration::from_millis(500));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut next = 0;
    while !stop.load(Ordering::Relaxed) {
        tick.tick().await;
        let mut batch = numbered(next..next + BATCH, KEYS);
        batch[0].value = Some(FLAKY.into());
        next += BATCH;
        let _ = kafka.produce(&topic, batch).await;
    }
}

/// A running member; it is killed when this is dropped.
pub(crate) struct Member {
    child: Child,
    input: Option<ChildStdin>,
}

impl Member {
    pub(crate) fn has_died(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Shuts down in order.
    pub(crate) async fn leave(mut self) {
        drop(self.input.take());
        wait_for("the member has left", DEADLINE, async || {
            self.child.try_wait().unwrap()
        })
        .await;
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
