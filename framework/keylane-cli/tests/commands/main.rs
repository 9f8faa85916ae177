//! The commands against the embedded broker.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests stop the test as the tests do"
)]

mod acts;
mod control;
mod dlq;
mod doctor;
mod lag;
mod map;
mod offsets;
mod usage;

use std::collections::BTreeMap;

use keylane::config::KafkaSettings;
use keylane::operator::{CommittedOffset, NewOffset, Operator};
use keylane::{NewTask, TaskProducer};
use keylane_cli::{Ask, Progress, Surroundings};
use keylane_core::commit_map;
use keylane_core::{Evidence, LogId, Offset, Position, SettledRange};
use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};
use serde_json::Value;
use std::time::Duration;

const GROUP: &str = "notifier";
const TOPIC: &str = "parking-events";
const PATIENCE: Duration = Duration::from_secs(30);

/// What a command has answered.
#[derive(Debug)]
struct Answer {
    code: u8,
    output: String,
    messages: String,
}

impl Answer {
    fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        serde_json::from_str(&self.output).unwrap()
    }
}

/// Runs a command without a terminal.
fn keylane(arguments: &[&str]) -> Answer {
    run(arguments, None)
}

/// Runs a command on the scene's broker at a terminal.
fn keylane_at(scene: &Scene, arguments: &[&str], ask: Ask<'_>) -> Answer {
    let connection = ["--bootstrap", scene.broker.bootstrap_servers()];
    run(&[arguments, &connection].concat(), Some(ask))
}

fn run(arguments: &[&str], ask: Option<Ask<'_>>) -> Answer {
    let (mut output, mut messages) = (Vec::new(), Vec::new());
    let arguments = ["keylane"].iter().chain(arguments).map(|it| (*it).into());
    let surroundings = Surroundings {
        environment: BTreeMap::new(),
        output: &mut output,
        messages: &mut messages,
        ask,
        progress: Progress::Hidden,
    };
    let code = keylane_cli::run(arguments, surroundings);
    Answer {
        code,
        output: String::from_utf8(output).unwrap(),
        messages: String::from_utf8(messages).unwrap(),
    }
}

/// A broker with one topic.
struct Scene {
    broker: EmbeddedBroker,
}

impl Scene {
    fn new(partitions: i32) -> Self {
        let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
        broker.create_topic(TOPIC, partitions).unwrap();
        Self { broker }
    }

    /// Runs a command on this broker.
    fn keylane(&self, arguments: &[&str]) -> Answer {
        let connection = ["--bootstrap", self.broker.bootstrap_servers()];
        keylane(&[arguments, &connection].concat())
    }

    fn operator(&self) -> Operator {
        let servers = self.broker.bootstrap_servers().into();
        Operator::connect(&servers, &KafkaSettings::new(), GROUP, PATIENCE).unwrap()
    }

    /// Commits without being a member.
    fn commit(&self, partition: i32, position: i64, metadata: &str) {
        let offset = NewOffset {
            topic: TOPIC.to_owned(),
            partition,
            position: Position::new(position),
            metadata: metadata.to_owned(),
        };
        self.operator().commit(&[offset]).unwrap();
    }

    /// The position and the metadata that are committed.
    fn committed(&self, partition: i32) -> (i64, String) {
        let committed = self.committed_offset(partition).unwrap();
        (committed.position.get(), committed.metadata)
    }

    fn position(&self, partition: i32) -> Option<i64> {
        let committed = self.committed_offset(partition);
        committed.map(|it| it.position.get())
    }

    fn committed_offset(&self, partition: i32) -> Option<CommittedOffset> {
        let asked = [(TOPIC.to_owned(), partition)];
        self.operator()
            .committed(&asked)
            .unwrap()
            .remove(0)
            .committed
    }

    /// Writes records to a partition.
    async fn write(&self, partition: i32, count: usize) {
        let producer = TaskProducer::builder(TOPIC)
            .bootstrap_servers(self.broker.bootstrap_servers())
            .application_id("test")
            .start()
            .await
            .unwrap();
        for _ in 0..count {
            let task = NewTask::new("\"a value\"")
                .key("a key")
                .partition(partition);
            producer.enqueue(task).await.unwrap();
        }
    }
}

/// The metadata of a commit with these settled ranges.
fn map(position: i64, ranges: &[(i64, i64)]) -> String {
    let ranges = ranges.iter().map(|(first, last)| SettledRange {
        first: Offset::new(*first),
        last: Offset::new(*last),
    });
    let (position, evidence) = (Position::new(position), Evidence::default());
    commit_map::encode_for(LogId::of_topic(1, 2), position, ranges, &evidence, 4_000).text
}
