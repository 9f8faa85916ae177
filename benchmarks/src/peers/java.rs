//! `benchmarks/java`: one program for a plain consumer loop and for Confluent's Parallel Consumer,
//! from their published artifacts.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{cache, step};
use crate::arms::Arm;
use crate::measure::{Job, Work};

/// The Parallel Consumer has a thread for each attempt in flight: beyond this they cost more than
/// they bring.
pub(crate) const MAX_THREADS: usize = 1_000;

pub(crate) struct Program {
    java: PathBuf,
    class_path: String,
}

pub(super) fn build() -> Result<Program, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("java");
    let cache = cache("java")?;
    let (libs, classes) = (cache.join("libs"), cache.join("classes"));
    let home = home();
    let tool = |name: &str| {
        home.as_ref()
            .map_or_else(|| PathBuf::from(name), |home| home.join("bin").join(name))
    };
    if !libs.is_dir() {
        let partial = cache.join("libs.partial");
        let mut maven = Command::new("mvn");
        maven.args([
            "-q",
            "-B",
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
            "-f",
        ]);
        maven
            .arg(source.join("pom.xml"))
            .arg(format!("-DoutputDirectory={}", partial.display()));
        step("mvn dependency:copy-dependencies", &mut maven)?;
        std::fs::rename(&partial, &libs)
            .map_err(|error| format!("rename {}: {error}", partial.display()))?;
    }
    let jars = format!("{}/*", libs.display());
    let mut sources: Vec<PathBuf> = std::fs::read_dir(&source)
        .map_err(|error| format!("read {}: {error}", source.display()))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "java")
        })
        .collect();
    sources.sort();
    let mut javac = Command::new(tool("javac"));
    javac
        .args(["-proc:none", "-cp", &jars, "-d"])
        .arg(&classes)
        .args(&sources);
    step("javac", &mut javac)?;
    Ok(Program {
        java: tool("java"),
        class_path: format!("{jars}:{}", classes.display()),
    })
}

/// A JDK 25 where there is one, else whatever is on the path.
fn home() -> Option<PathBuf> {
    let named = ["JAVA_HOME_25", "JAVA_HOME_25_X64"]
        .into_iter()
        .filter_map(std::env::var_os)
        .map(PathBuf::from);
    let installed = ["/usr/lib/jvm", "/opt"]
        .into_iter()
        .filter_map(|place| std::fs::read_dir(place).ok())
        .flatten();
    let installed = installed
        .filter_map(|entry| entry.ok())
        .filter(|entry| entry.file_name().to_string_lossy().contains("25"));
    named
        .chain(installed.map(|entry| entry.path()))
        .find(|home| home.join("bin/javac").is_file())
}

impl Program {
    pub(super) fn command(&self, arm: Arm, job: &Job) -> Command {
        let mut command = Command::new(&self.java);
        // zstd-jni is loaded whether it is used or not.
        command.args([
            "--enable-native-access=ALL-UNNAMED",
            "-Xms512m",
            "-Xmx2g",
            "-cp",
            &self.class_path,
            "Bench",
            arm.name(),
        ]);
        command.args(
            arguments(job)
                .into_iter()
                .map(|(name, value)| format!("{name}={value}")),
        );
        command
    }
}

/// The job, flat: Java reads no JSON by itself.
fn arguments(job: &Job) -> Vec<(&'static str, String)> {
    let (kind, a, b, c) = match job.work {
        Work::Nothing => ("nothing", 0, 0, 0),
        Work::Wait { micros } => ("wait", micros, 0, 0),
        Work::RandomWait { max_millis } => ("random_wait", max_millis, 0, 0),
        Work::Compute { iterations } => ("compute", iterations, 0, 0),
        Work::StuckKey {
            stuck_micros,
            micros,
        } => ("stuck_key", stuck_micros, micros, 0),
        Work::SomeSlow {
            one_in,
            slow_micros,
            micros,
        } => ("some_slow", one_in, slow_micros, micros),
        Work::SomeFail { one_in } => ("some_fail", one_in, 0, 0),
        Work::Hold => ("hold", 0, 0, 0),
    };
    vec![
        ("bootstrap", job.bootstrap_servers.clone()),
        ("topic", job.topic.clone()),
        ("group", job.group.clone()),
        ("partitions", job.partitions.to_string()),
        ("records", job.records.to_string()),
        ("keys", job.keys.to_string()),
        ("primers", job.primers.to_string()),
        ("needed", job.needed.to_string()),
        ("threads", job.in_flight_total.min(MAX_THREADS).to_string()),
        ("max_seconds", job.max_seconds.to_string()),
        ("kind", kind.to_owned()),
        ("a", a.to_string()),
        ("b", b.to_string()),
        ("c", c.to_string()),
    ]
}
