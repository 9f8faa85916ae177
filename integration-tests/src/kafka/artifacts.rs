//! Apache Kafka publishes all that a broker needs as Maven artifacts: they are fetched once and
//! kept in cargo's target directory, so `cargo clean` removes them and CI caches them with
//! everything else.

use std::{
    env, fs,
    fs::File,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};

use super::{error::HarnessError, process};

/// The version that is started unless `KEYLANE_KAFKA_VERSION` names another one.
const DEFAULT_VERSION: &str = "4.2.0";
/// A cold fetch takes about a minute; this is for slow networks.
const FETCH_DEADLINE: Duration = Duration::from_secs(300);

/// The version of Kafka that the harness starts.
pub(super) fn version() -> String {
    env::var("KEYLANE_KAFKA_VERSION")
        .ok()
        .filter(|version| !version.is_empty())
        .unwrap_or(DEFAULT_VERSION.to_owned())
}

/// What is fetched, with all that it depends on.
#[derive(Debug, Clone, Copy)]
pub(super) enum Artifact {
    /// The brokers.
    Broker,
    /// Apache's own command-line tools.
    Tools,
}

impl Artifact {
    fn name(self) -> &'static str {
        match self {
            Self::Broker => "kafka_2.13",
            Self::Tools => "kafka-tools",
        }
    }

    /// Below the directory of a version.
    fn folder(self) -> &'static str {
        match self {
            Self::Broker => "libs",
            Self::Tools => "tools",
        }
    }
}

/// The directory with the jars of `version`, fetched if they are not there yet.
pub(super) fn libs(version: &str, artifact: Artifact) -> Result<PathBuf, HarnessError> {
    let cache = target_dir().join("kafka").join(version);
    let libs = cache.join(artifact.folder());
    fs::create_dir_all(&cache).map_err(HarnessError::io(format!("create {}", cache.display())))?;

    // Test processes that run side by side fetch once; the lock goes with the process, whatever
    // happens to it.
    let path = cache.join("lock");
    let lock =
        File::create(&path).map_err(HarnessError::io(format!("create {}", path.display())))?;
    flock(&lock, FlockOperation::LockExclusive).map_err(|errno| HarnessError::Io {
        doing: format!("lock {}", path.display()),
        source: errno.into(),
    })?;
    if !libs.is_dir() {
        fetch(version, artifact, &cache, &libs)?;
    }
    Ok(libs)
}

/// The directory appears under its name only when it is complete.
fn fetch(version: &str, artifact: Artifact, cache: &Path, libs: &Path) -> Result<(), HarnessError> {
    let partial = cache.join(format!("{}.partial", artifact.folder()));
    let pom_file = cache.join("pom.xml");
    if partial.exists() {
        fs::remove_dir_all(&partial)
            .map_err(HarnessError::io(format!("remove {}", partial.display())))?;
    }
    fs::write(&pom_file, pom(version, artifact))
        .map_err(HarnessError::io(format!("write {}", pom_file.display())))?;
    let mut maven = Command::new("mvn");
    maven
        .args([
            "-q",
            "-B",
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
        ])
        .arg(format!("-DoutputDirectory={}", partial.display()))
        .current_dir(cache);
    process::run(
        "mvn dependency:copy-dependencies",
        &mut maven,
        &cache.join("mvn.log"),
        FETCH_DEADLINE,
    )?;
    fs::rename(&partial, libs).map_err(HarnessError::io(format!("rename {}", partial.display())))
}

fn pom(version: &str, artifact: Artifact) -> String {
    let name = artifact.name();
    format!(
        r#"<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>keylane</groupId>
  <artifactId>kafka-for-tests</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>{name}</artifactId><version>{version}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"#
    )
}

/// Cargo leaves marks in its target directory, wherever `CARGO_TARGET_DIR` puts it, and this
/// program was built into it. (It tags only directories that it created itself, hence two marks.)
/// Of a target directory in another one, the outer one, so that both have one Kafka.
fn target_dir() -> PathBuf {
    let executable = env::current_exe().unwrap_or_default();
    executable
        .ancestors()
        .filter(|dir| {
            ["CACHEDIR.TAG", ".rustc_info.json"]
                .iter()
                .any(|mark| dir.join(mark).is_file())
        })
        .last()
        .map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
            Path::to_owned,
        )
}

#[cfg(test)]
mod tests {
    use super::{Artifact, pom, target_dir};

    #[test]
    fn the_pom_asks_for_the_version() {
        assert!(
            pom("3.9.1", Artifact::Broker)
                .contains("<artifactId>kafka_2.13</artifactId><version>3.9.1</version>")
        );
    }

    #[test]
    fn the_cache_lies_where_this_test_was_built() {
        assert!(std::env::current_exe().unwrap().starts_with(target_dir()));
    }
}
