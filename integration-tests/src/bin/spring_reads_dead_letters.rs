//! Whether a Spring team's listener reads keylane's dead letters: a real `@KafkaListener`, which
//! takes where a letter came from, and why, out of `KafkaHeaders.DLT_…`.
//!
//! By night, and by hand: it needs `java` 17 and `mvn` on the path, and fetches Spring Kafka.

use std::{path::Path, process::Command};

use keylane::{DeadLetter, Raw, Subscription, Task, TaskError, config::HeaderConvention};
use keylane_integration_tests::kafka::{Found, Kafka, NewRecord, Nodes};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let kafka = match tokio::task::spawn_blocking(|| Kafka::find(Nodes::One)).await? {
        Found::Running(kafka) => kafka,
        Found::Unavailable(reason) => return Err(reason.into()),
    };
    let (topic, dead) = (kafka.unique("spring"), kafka.unique("spring-dlt"));
    for topic in [&topic, &dead] {
        kafka.create_topic(topic, 1, 1, &[]).await?;
    }
    let record = NewRecord::keyed("key", "value");
    kafka.produce(&topic, vec![record]).await?;
    let timestamp = kafka.read_all(&topic).await?[0]
        .timestamp_millis
        .unwrap_or(-1);

    let conventions = [HeaderConvention::Spring];
    let subscription = Subscription::builder(format!("{topic}-group"), &topic)
        .bootstrap_servers(kafka.bootstrap_servers())
        .dead_letter(DeadLetter::topic(&dead).headers(conventions))
        .start(Raw, async |_: Task<bytes::Bytes>| {
            Err::<(), _>(TaskError::fatal("no such vehicle").of_class("parking.UnknownVehicle"))
        })
        .await?;
    let servers = kafka.bootstrap_servers().to_owned();
    let letters = dead.clone();
    let read = tokio::task::spawn_blocking(move || listen(&servers, &letters)).await;
    subscription.shutdown().await?;

    let expected = format!(
        "read|value|{topic}|0|0|{timestamp}|{topic}-group|parking.UnknownVehicle|no such vehicle"
    );
    let output = read??;
    if !output.contains(&expected) {
        return Err(format!("expected {expected}\n{output}").into());
    }
    println!("{expected}");
    Ok(())
}

/// Builds the listener, and runs it until it has read a letter.
fn listen(servers: &str, topic: &str) -> std::io::Result<String> {
    let pom = Path::new(env!("CARGO_MANIFEST_DIR")).join("spring/pom.xml");
    let build = tempfile::tempdir()?;
    let output = Command::new("mvn")
        .args(["-q", "-B", "compile", "exec:java", "-f"])
        .arg(pom)
        .arg(format!("-Dbuild={}", build.path().display()))
        .arg(format!("-Dexec.args={servers} {topic}"))
        .output()?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ok(text(&output.stdout) + &text(&output.stderr))
}
