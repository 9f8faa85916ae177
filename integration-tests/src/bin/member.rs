//! A member in a process of its own, so that a test can stop it at any moment: `member BOOTSTRAP
//! GROUP TOPIC classic|range|consumer [FILE]`, or one of `keylane_integration_tests::members`:
//! `member operations|outbox|poison|redrive`, which reads the rest from variables.
//!
//! The first one prints a line for the beginning and the end of each attempt (see `line`), and
//! shuts down when its input ends. Into the file it writes again and again whether it is assigned,
//! and how many partitions it has: `true 2`. With the variable `KEYLANE_CONTROL_TOPIC` it has a
//! control topic.

use std::{
    io::{self, Read, Write},
    process::ExitCode,
    time::Duration,
};

use bytes::Bytes;
use keylane::config::ControlTopic;
use keylane::{Raw, Task, TaskError};
use keylane_integration_tests::{
    kafka::{Found, Kafka, Nodes},
    member::spread,
    members,
    protocol::Protocol,
};

#[tokio::main]
async fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("operations") => {
            members::operations::run().await;
            return ExitCode::SUCCESS;
        }
        Some("outbox") => {
            members::outbox::run().await;
            return ExitCode::SUCCESS;
        }
        Some("poison") => {
            members::poison::run().await;
            return ExitCode::SUCCESS;
        }
        Some("redrive") => {
            members::redrive::run().await;
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    // Also while it is stopped, and however the test ends.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let ([bootstrap, group, topic, protocol], file) = (match &arguments[..] {
        [needed @ .., file] if needed.len() == 4 => (needed, Some(file.clone())),
        needed => (needed, None),
    }) else {
        eprintln!("usage: member BOOTSTRAP GROUP TOPIC classic|range|consumer [FILE]");
        return ExitCode::from(2);
    };
    let protocol = match &protocol[..] {
        "consumer" => Protocol::Consumer,
        "range" => Protocol::Range,
        _ => Protocol::Cooperative,
    };
    match run(bootstrap, group, topic, protocol, file).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(
    bootstrap: &str,
    group: &str,
    topic: &str,
    protocol: Protocol,
    file: Option<String>,
) -> Result<(), Box<dyn std::error::Error>> {
    let kafka = match Kafka::connect(bootstrap, Nodes::One) {
        Found::Running(kafka) => kafka,
        Found::Unavailable(reason) => return Err(reason.into()),
    };
    let mut builder = protocol
        .subscribe(&kafka, group, topic, 3_000)
        .concurrency(16);
    if std::env::var_os("KEYLANE_CONTROL_TOPIC").is_some() {
        builder = builder.control_topic(ControlTopic::default());
    }
    let member = builder
        .start(Raw, |task: Task<Bytes>| async move {
            line("started", &task);
            tokio::time::sleep(spread(&task, Duration::from_millis(10))).await;
            line("done", &task);
            Ok::<(), TaskError>(())
        })
        .await?;
    if let Some(file) = file {
        let handle = member.handle();
        tokio::spawn(async move {
            loop {
                let status = handle.status();
                // A reader may find half of it, and reads again.
                let _ = std::fs::write(
                    &file,
                    format!("{} {}", status.assigned, status.partitions.len()),
                );
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
    }
    let end_of_input = tokio::task::spawn_blocking(|| {
        while io::stdin().read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
    });
    member.run_until(end_of_input).await?;
    Ok(())
}

/// What happens, partition, offset, attempt, key and value.
fn line(what: &str, task: &Task<Bytes>) {
    let (partition, offset, attempt) = (task.partition(), task.offset(), task.attempt());
    let (key, value) = (
        task.key_str().unwrap_or_default(),
        String::from_utf8_lossy(task.payload()),
    );
    // The reader may have ended; then the member is about to end too.
    let _ = writeln!(
        io::stdout(),
        "{what} {partition} {offset} {attempt} {key} {value}"
    );
}
