//! How the cluster is reached: by file, environment and flag, the later one winning.
//!
//! **Invariant:** no error quotes a file, a variable or a value.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use keylane::config::{BootstrapServers, KafkaSettings};
use keylane::control::Commander;
use keylane::operator::Operator;
use keylane::redrive::ops::OpsTopic;
use keylane::redrive::{Letters, LettersBuilder, RedriveTask};
use serde::Deserialize;

use crate::arguments::ConnectionArguments;
use crate::failure::Failure;

const CONFIG: &str = "KEYLANE_CONFIG";
const BOOTSTRAP_SERVERS: &str = "KEYLANE_BOOTSTRAP_SERVERS";
/// `KEYLANE_CLIENT_SASL_PASSWORD` is `sasl.password`.
const SETTING: &str = "KEYLANE_CLIENT_";
const USER: &str = "USER";
const PATIENCE: Duration = Duration::from_secs(15);
/// A transaction of a process that was killed may stay open for 20 seconds.
const PATIENCE_OF_TRANSACTIONS: Duration = Duration::from_secs(30);
/// A larger file is none of settings.
const LARGEST_FILE_BYTES: u64 = 1024 * 1024;

/// What a client needs.
#[derive(Debug)]
pub(crate) struct Connection {
    bootstrap_servers: BootstrapServers,
    kafka: KafkaSettings,
    patience: Duration,
    user: Option<String>,
}

/// The part of a subscription's settings file that is about the cluster.
#[derive(Default, Deserialize)]
struct SettingsFile {
    bootstrap_servers: Option<BootstrapServers>,
    #[serde(default)]
    kafka: KafkaSettings,
}

impl Connection {
    pub(crate) fn resolve(
        arguments: &ConnectionArguments,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, Failure> {
        let of_environment = environment.get(CONFIG).map(Path::new);
        let file = match arguments.config.as_deref().or(of_environment) {
            Some(path) => read(path)?,
            None => SettingsFile::default(),
        };
        let mut kafka = file.kafka;
        for (name, value) in environment {
            if let Some(name) = name.strip_prefix(SETTING) {
                kafka.set(name.to_ascii_lowercase().replace('_', "."), value);
            }
        }
        for (place, setting) in arguments.setting.iter().enumerate() {
            let (name, value) = setting.split_once('=').ok_or_else(|| {
                Failure::Usage(format!("setting {} after -X has no =", place + 1))
            })?;
            kafka.set(name.trim(), value);
        }
        let given = arguments.bootstrap.as_ref();
        let given = given.or_else(|| environment.get(BOOTSTRAP_SERVERS));
        let bootstrap_servers = match given {
            Some(servers) => servers.as_str().into(),
            None => file.bootstrap_servers.unwrap_or_default(),
        };
        Ok(Self {
            bootstrap_servers,
            kafka,
            patience: arguments.timeout.unwrap_or(PATIENCE),
            user: environment.get(USER).filter(|it| !it.is_empty()).cloned(),
        })
    }

    pub(crate) fn operator(&self, group: &str) -> Result<Operator, Failure> {
        if group.trim().is_empty() {
            return Err(Failure::Usage("the group's name is empty".to_owned()));
        }
        let operator =
            Operator::connect(&self.bootstrap_servers, &self.kafka, group, self.patience);
        Ok(operator?)
    }

    /// Of the group's control topic, or the one that is named.
    pub(crate) fn commander(&self, group: &str, topic: Option<&str>) -> Result<Commander, Failure> {
        if group.trim().is_empty() {
            return Err(Failure::Usage("the group's name is empty".to_owned()));
        }
        let commander = Commander::connect(
            &self.bootstrap_servers,
            &self.kafka,
            group,
            topic,
            self.patience,
        );
        Ok(commander?)
    }

    /// Who runs the command, by the environment.
    pub(crate) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The dead letters of a topic.
    pub(crate) fn letters(&self, topic: &str) -> LettersBuilder {
        Letters::of(topic)
            .bootstrap_servers(self.bootstrap_servers.clone())
            .kafka_settings(self.kafka.clone())
            .patience(self.patience)
    }

    /// The operations topic of a group.
    pub(crate) fn ops(&self, group: &str) -> OpsTopic {
        OpsTopic::of(group)
            .bootstrap_servers(self.bootstrap_servers.clone())
            .kafka_settings(self.kafka.clone())
            .patience(self.patience.max(PATIENCE_OF_TRANSACTIONS))
    }

    /// A redrive of the dead letters of a topic.
    pub(crate) fn redrive(&self, topic: &str) -> RedriveTask {
        RedriveTask::of(topic)
            .bootstrap_servers(self.bootstrap_servers.clone())
            .kafka_settings(self.kafka.clone())
            .patience(self.patience.max(PATIENCE_OF_TRANSACTIONS))
    }

    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }
}

fn read(path: &Path) -> Result<SettingsFile, Failure> {
    let wrong = |what: String| Failure::Usage(format!("{}: {what}", path.display()));
    let size = fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
    if size.len() > LARGEST_FILE_BYTES {
        return Err(wrong("a file of settings has 1 MiB at most".to_owned()));
    }
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let is_structured = path
        .extension()
        .is_some_and(|it| ["yaml", "yml", "json"].iter().any(|known| it == *known));
    if !is_structured {
        return properties(&text)
            .map_err(|line| wrong(format!("line {line} is not NAME=VALUE (not shown)")));
    }
    // The parser's text may quote a secret; JSON is YAML too.
    serde_norway::from_str(&text).map_err(|error| {
        let place = error.location().map_or_else(String::new, |it| {
            format!(" at line {}, column {}", it.line(), it.column())
        });
        wrong(format!("cannot be read as settings{place} (not shown)"))
    })
}

/// Lines of `name=value`, comments and empty lines; `Err` with the number of another line.
fn properties(text: &str) -> Result<SettingsFile, usize> {
    let mut file = SettingsFile::default();
    for (place, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let (name, value) = line.split_once('=').ok_or(place + 1)?;
        match name.trim() {
            "bootstrap.servers" => file.bootstrap_servers = Some(value.trim().into()),
            name => {
                file.kafka.set(name, value.trim());
            }
        }
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn environment<const N: usize>(variables: [(&str, &str); N]) -> BTreeMap<String, String> {
        let variables = variables.into_iter();
        variables
            .map(|(name, value)| (name.into(), value.into()))
            .collect()
    }

    fn file(name: &str, text: &str) -> (tempfile::TempDir, ConnectionArguments) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        write!(fs::File::create(&path).unwrap(), "{text}").unwrap();
        let arguments = ConnectionArguments {
            config: Some(path),
            ..ConnectionArguments::default()
        };
        (directory, arguments)
    }

    const PROPERTIES: &str = "# of the cluster\nbootstrap.servers=file:1\n\nsasl.username = me\n\
         sasl.password=a=b\nclient.id=file\n";

    #[test]
    fn a_flag_wins_over_the_environment_and_that_over_the_file() {
        let (_directory, mut arguments) = file("client.properties", PROPERTIES);
        let nothing = BTreeMap::new();
        let of_file = Connection::resolve(&arguments, &nothing).unwrap();
        assert_eq!(of_file.bootstrap_servers.as_str(), "file:1");
        assert_eq!(of_file.kafka.get("sasl.password"), Some("a=b"));
        assert_eq!(of_file.kafka.get("client.id"), Some("file"));

        let variables = environment([
            (BOOTSTRAP_SERVERS, "environment:1"),
            ("KEYLANE_CLIENT_CLIENT_ID", "environment"),
            ("KEYLANE_KAFKA_VERSION", "of keylane's own tests"),
            ("KAFKA_CLIENT_ID", "of another program"),
        ]);
        let of_environment = Connection::resolve(&arguments, &variables).unwrap();
        assert_eq!(of_environment.bootstrap_servers.as_str(), "environment:1");
        assert_eq!(of_environment.kafka.get("client.id"), Some("environment"));
        assert_eq!(of_environment.kafka.get("sasl.username"), Some("me"));
        assert_eq!(of_environment.kafka.get("version"), None);

        arguments.bootstrap = Some("flag:1".into());
        arguments.setting = vec!["client.id=flag".into()];
        let of_flags = Connection::resolve(&arguments, &variables).unwrap();
        assert_eq!(of_flags.bootstrap_servers.as_str(), "flag:1");
        assert_eq!(of_flags.kafka.get("client.id"), Some("flag"));
    }

    #[test]
    fn a_subscriptions_settings_file_is_read_for_its_cluster() {
        let text = "group: notifier\nbootstrap_servers: kafka:9092\nkafka:\n  sasl.username: me\n";
        let (_directory, arguments) = file("notifier.yaml", text);
        let read = Connection::resolve(&arguments, &BTreeMap::new()).unwrap();
        assert_eq!(read.bootstrap_servers.as_str(), "kafka:9092");
        assert_eq!(read.kafka.get("sasl.username"), Some("me"));
        let json = r#"{"bootstrap_servers": "kafka:9093", "topics": ["a"]}"#;
        let (_directory, arguments) = file("notifier.json", json);
        let read = Connection::resolve(&arguments, &BTreeMap::new()).unwrap();
        assert_eq!(read.bootstrap_servers.as_str(), "kafka:9093");
    }

    #[test]
    fn no_error_quotes_what_was_given() {
        let files = [
            ("a.properties", "sasl.username=me\nhunter2"),
            ("a.yaml", "kafka: hunter2"),
            ("a.yaml", "kafka: {sasl.password: [hunter2]}"),
            ("a.json", r#"{"kafka": {"sasl.password": "hunter2" "x"}"#),
        ];
        for (name, text) in files {
            let (_directory, arguments) = file(name, text);
            let error = Connection::resolve(&arguments, &BTreeMap::new()).unwrap_err();
            assert_eq!(error.exit_code(), crate::failure::USAGE);
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        let arguments = ConnectionArguments {
            setting: vec!["hunter2".into()],
            ..ConnectionArguments::default()
        };
        let error = Connection::resolve(&arguments, &BTreeMap::new()).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
        // What librdkafka refuses is judged when the client is created.
        let arguments = ConnectionArguments {
            setting: vec![
                "sasl.password=hunter2\0".into(),
                "sasl.nonsense=hunter2".into(),
            ],
            ..ConnectionArguments::default()
        };
        let connection = Connection::resolve(&arguments, &BTreeMap::new()).unwrap();
        let error = connection.operator("group").err().unwrap();
        assert_eq!(error.exit_code(), crate::failure::USAGE);
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
