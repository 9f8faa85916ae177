//! Apache's own command-line tools.

use std::{fs::File, process::Command, time::Duration};

use super::{
    Kafka,
    artifacts::{self, Artifact},
    client::blocking,
    error::HarnessError,
    process,
};

/// A Java virtual machine that starts beside busy brokers.
const DEADLINE: Duration = Duration::from_secs(120);
const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";

impl Kafka {
    /// Runs `kafka-consumer-groups.sh` with these arguments on this Kafka, and returns what it
    /// prints. The first time it fetches the tool.
    ///
    /// # Errors
    /// When it cannot be fetched, fails or does not end.
    pub async fn consumer_groups_tool(&self, arguments: &[&str]) -> Result<String, HarnessError> {
        let mut all = vec![
            "--bootstrap-server".to_owned(),
            self.bootstrap_servers.clone(),
        ];
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        blocking(move || {
            let tools = artifacts::libs(&artifacts::version(), Artifact::Tools)?;
            let log = tempfile::NamedTempFile::new().map_err(HarnessError::io(
                "create a file for the tool's output".to_owned(),
            ))?;
            let mut java = Command::new(process::java());
            java.arg("-cp")
                .arg(tools.join("*"))
                .arg("-Xmx128m")
                .arg(GROUPS)
                .args(&all);
            process::run("kafka-consumer-groups", &mut java, log.path(), DEADLINE)?;
            let printed = File::open(log.path()).and_then(std::io::read_to_string);
            printed.map_err(HarnessError::io("read the tool's output".to_owned()))
        })
        .await
    }
}
