//! The command line, as tests run it.

use std::{collections::BTreeMap, ffi::OsString};

use keylane_cli::{Progress, Surroundings};
use keylane_integration_tests::kafka::Kafka;

/// What the brokers and the members of a busy machine may take.
pub(crate) const TIMEOUT: &str = "90s";

/// Runs a command of keylane's without a terminal: its exit code, its output, its messages.
pub(crate) async fn keylane(kafka: &Kafka, arguments: &[&str]) -> (u8, String, String) {
    let servers = kafka.bootstrap_servers();
    let connection = ["keylane", "--bootstrap", servers, "--timeout", TIMEOUT];
    let all = connection.iter().chain(arguments);
    let all: Vec<OsString> = all.map(|argument| (*argument).into()).collect();
    let run = move || {
        let (mut output, mut messages) = (Vec::new(), Vec::new());
        let surroundings = Surroundings {
            environment: BTreeMap::new(),
            output: &mut output,
            messages: &mut messages,
            ask: None,
            progress: Progress::Hidden,
        };
        let code = keylane_cli::run(all, surroundings);
        let [output, messages] = [output, messages].map(|it| String::from_utf8(it).unwrap());
        (code, output, messages)
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}
