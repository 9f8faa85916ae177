//! A real Prometheus of our own: Debian's package, on a free port, with its own data.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use keylane_integration_tests::{kafka::free_ports, wait::wait_for};
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::rules;

const READY: Duration = Duration::from_secs(60);

/// The program, `prometheus` or `promtool`; `None` where it is not installed, which has been said
/// then.
///
/// # Panics
/// With `CI=true`, when it is not there.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    static SAID: OnceLock<()> = OnceLock::new();
    let of_variable =
        std::env::var_os("PROMETHEUS_BIN").map(|directory| PathBuf::from(directory).join(name));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates = of_variable
        .into_iter()
        .chain(std::env::split_paths(&path).map(|path| path.join(name)));
    let found = candidates.find(|candidate| candidate.is_file());
    if found.is_none() {
        let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(
            !ci,
            "{name} is required where CI=true: install Debian's package prometheus"
        );
        SAID.get_or_init(|| {
            let reason =
                "neither on the path nor in PROMETHEUS_BIN (Debian: the package prometheus)";
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED, no Prometheus: {name} is {reason}"
            );
        });
    }
    found
}

/// A port that is free at this moment, and that no connection takes while its server is down.
pub(crate) fn free_address() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_ports(1).unwrap()[0]).into()
}

pub(crate) struct Prometheus {
    /// A shell that ends it when its input does, however the test ends.
    guard: Child,
    address: SocketAddr,
    directory: tempfile::TempDir,
}

/// One series of an answer, with its value at the requested moment.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Sample {
    pub(crate) metric: BTreeMap<String, String>,
    value: (f64, String),
}

impl Sample {
    pub(crate) fn value(&self) -> f64 {
        self.value.1.parse().unwrap()
    }

    pub(crate) fn label(&self, name: &str) -> &str {
        self.metric.get(name).map_or("", String::as_str)
    }
}

impl Prometheus {
    /// Starts with the shipped rules in fast motion and nothing to scrape; returns when it answers.
    pub(crate) async fn start(program: &std::path::Path) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("keylane-prometheus-")
            .tempdir()
            .unwrap();
        let config = serde_json::json!({
            "global": { "scrape_interval": "750ms", "scrape_timeout": "750ms", "evaluation_interval": "500ms" },
            "rule_files": ["rules.yml"],
            "scrape_configs": [{ "job_name": "keylane", "file_sd_configs": [{ "files": ["targets.json"] }] }],
        });
        fs::write(directory.path().join("prometheus.yml"), config.to_string()).unwrap();
        fs::write(directory.path().join("rules.yml"), rules::in_fast_motion()).unwrap();
        let address = free_address();
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let guard = Command::new("sh")
            .args([
                "-c",
                r#""$@" & pid=$!; read -r _; kill "$pid"; wait "$pid""#,
                "sh",
            ])
            .arg(program)
            .arg(format!(
                "--config.file={}",
                directory.path().join("prometheus.yml").display()
            ))
            .arg(format!(
                "--storage.tsdb.path={}",
                directory.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let prometheus = Self {
            guard,
            address,
            directory,
        };
        wait_for(
            &format!("Prometheus is ready at {address}"),
            READY,
            async || {
                get(address, "/-/ready")
                    .await
                    .filter(|(status, _)| *status == 200)
                    .map(|_| ())
            },
        )
        .await;
        prometheus
    }

    /// Where it answers.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What to scrape from now on.
    pub(crate) fn scrape(&self, targets: &[SocketAddr]) {
        let targets: Vec<_> = targets.iter().map(ToString::to_string).collect();
        let file = self.directory.path().join("targets.json");
        // In one piece: it is read as soon as it changes.
        let new = file.with_extension("new");
        fs::write(
            &new,
            serde_json::json!([{ "targets": targets }]).to_string(),
        )
        .unwrap();
        fs::rename(new, file).unwrap();
    }

    /// The answer to a query, now.
    ///
    /// # Panics
    /// When Prometheus refuses the query, or answers with something else than a vector.
    pub(crate) async fn query(&self, query: &str) -> Vec<Sample> {
        #[derive(Deserialize)]
        struct Data {
            result: Vec<Sample>,
        }
        let data: Data = self
            .api(&format!("/api/v1/query?query={}", encoded(query)))
            .await;
        data.result
    }

    /// The alerts that fire now, by name. Information is none.
    pub(crate) async fn firing(&self) -> Vec<String> {
        names(
            &self
                .query(r#"ALERTS{alertstate="firing", severity!="info"}"#)
                .await,
        )
    }

    /// Every alert that has fired since the start, by name. Information is none.
    pub(crate) async fn fired(&self) -> Vec<String> {
        names(
            &self
                .query(r#"max_over_time(ALERTS{alertstate="firing", severity!="info"}[1h])"#)
                .await,
        )
    }

    /// The annotations of what is pending or fires, templates filled in.
    pub(crate) async fn annotations(&self) -> Vec<BTreeMap<String, String>> {
        #[derive(Deserialize)]
        struct Alert {
            annotations: BTreeMap<String, String>,
        }
        #[derive(Deserialize)]
        struct Data {
            alerts: Vec<Alert>,
        }
        let data: Data = self.api("/api/v1/alerts").await;
        data.alerts
            .into_iter()
            .map(|alert| alert.annotations)
            .collect()
    }

    /// The values of a query over the last `seconds`, as Prometheus' JSON.
    pub(crate) async fn range(&self, query: &str, seconds: u32) -> serde_json::Value {
        let now = self.query("vector(time())").await;
        let end = now.first().map_or(0.0, Sample::value);
        let start = end - f64::from(seconds);
        self.api(&format!(
            "/api/v1/query_range?query={}&start={start}&end={end}&step=1",
            encoded(query)
        ))
        .await
    }

    async fn api<T: for<'a> Deserialize<'a>>(&self, path: &str) -> T {
        #[derive(Deserialize)]
        struct Answer<T> {
            data: T,
        }
        let (status, body) = get(self.address, path)
            .await
            .unwrap_or_else(|| panic!("no answer to {path}; {}", self.log()));
        assert_eq!(status, 200, "{path}: {body}");
        let answer: Answer<T> =
            serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"));
        answer.data
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// Status and body of what a server answers. In HTTP/1.0 that comes in one piece and ends with the
/// connection.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream
        .write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes())
        .await
        .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

fn names(alerts: &[Sample]) -> Vec<String> {
    let names: std::collections::BTreeSet<_> = alerts
        .iter()
        .map(|alert| alert.label("alertname").to_owned())
        .collect();
    names.into_iter().collect()
}

fn encoded(query: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    query
        .bytes()
        .map(|byte| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}
