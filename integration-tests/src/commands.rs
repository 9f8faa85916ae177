//! The command line, as tests run it.

use std::{collections::BTreeMap, ffi::OsString};

use keylane_cli::{Progress, Surroundings};

/// What the brokers and the members of a busy machine may take.
pub const TIMEOUT: &str = "90s";

/// Runs a command of keylane's without a terminal, and with this environment: its exit code, its
/// output, its messages.
///
/// # Panics
/// When the command panics, or its output is no text.
pub async fn keylane(
    servers: &str,
    environment: BTreeMap<String, String>,
    arguments: &[&str],
) -> (u8, String, String) {
    let connection = ["keylane", "--bootstrap", servers, "--timeout", TIMEOUT];
    let all = connection.iter().chain(arguments);
    let all: Vec<OsString> = all.map(|argument| (*argument).into()).collect();
    let run = move || {
        let (mut output, mut messages) = (Vec::new(), Vec::new());
        let surroundings = Surroundings {
            environment,
            output: &mut output,
            messages: &mut messages,
            ask: None,
            progress: Progress::Hidden,
        };
        let code = keylane_cli::run(all, surroundings);
        let texts = [output, messages].map(|it| String::from_utf8(it).expect("it is text"));
        let [output, messages] = texts;
        (code, output, messages)
    };
    let ended = tokio::task::spawn_blocking(run).await;
    ended.expect("the command does not panic")
}
