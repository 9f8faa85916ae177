//! `keylane dlq`.

mod handling;
mod purge;
mod reading;
mod redriving;

use keylane::{NewTask, TaskProducer};

use crate::Scene;

pub(crate) const DLQ: &str = "parking-events-dlq";

/// A broker with a topic of dead letters.
pub(crate) struct Letters {
    pub(crate) scene: Scene,
    producer: TaskProducer,
}

impl Letters {
    pub(crate) async fn new(partitions: i32) -> Self {
        let scene = Scene::new(partitions);
        scene.broker.create_topic(DLQ, partitions).unwrap();
        let producer = TaskProducer::builder(DLQ)
            .bootstrap_servers(scene.broker.bootstrap_servers())
            .application_id("test")
            .start()
            .await
            .unwrap();
        Self { scene, producer }
    }

    pub(crate) async fn write(&self, letters: impl IntoIterator<Item = NewTask>) {
        let letters: Vec<NewTask> = letters.into_iter().collect();
        let written = self.producer.enqueue_all(letters).await;
        assert!(written.iter().all(Result::is_ok), "{written:?}");
    }
}

/// A letter of keylane, of this offset of `parking-events-0`.
pub(crate) fn letter(offset: i64, reason: &str, error: &str) -> NewTask {
    NewTask::new(format!("{{\"order\":{offset}}}"))
        .key(format!("key-{offset}"))
        .partition(0)
        .header("tenant", "a")
        .header("keylane-origin-topic", "parking-events")
        .header("keylane-origin-partition", "0")
        .header("keylane-origin-offset", offset.to_string())
        .header("keylane-group", "notifier")
        .header("keylane-reason", reason.to_owned())
        .header("keylane-error-class", "gateway::Busy")
        .header("keylane-error", error.to_owned())
        .header("keylane-attempts", "7")
        .header(
            "keylane-last-failure",
            format!("2026-11-21T04:{:02}:00.000Z", offset % 60),
        )
}

/// A letter of each other program, with the word for it.
pub(crate) fn foreign() -> Vec<(&'static str, NewTask)> {
    let with = |headers: &[(&str, &[u8])]| {
        let task = NewTask::new("a value").key("a key").partition(0);
        let headers = headers.iter();
        headers.fold(task, |task, (name, value)| {
            task.header(*name, value.to_vec())
        })
    };
    let (partition, offset) = (0_i32.to_be_bytes(), 42_i64.to_be_bytes());
    vec![
        (
            "spring",
            with(&[
                ("kafka_dlt-original-topic", b"parking-events"),
                ("kafka_dlt-original-partition", &partition),
                ("kafka_dlt-original-offset", &offset),
                ("kafka_dlt-original-consumer-group", b"billing"),
                ("kafka_dlt-exception-fqcn", b"java.lang.IllegalState"),
                ("kafka_dlt-exception-message", b"busy"),
            ]),
        ),
        (
            "spring",
            with(&[
                ("kafka_original-topic", b"parking-events"),
                ("kafka_original-partition", &partition),
                ("kafka_original-offset", &offset),
                ("kafka_exception-message", b"busy"),
            ]),
        ),
        (
            "kip-1191",
            with(&[
                ("__dlq.errors.topic", b"parking-events"),
                ("__dlq.errors.partition", b"0"),
                ("__dlq.errors.offset", b"42"),
                ("__dlq.errors.group", b"billing"),
                ("__dlq.errors.message", b"busy"),
            ]),
        ),
        (
            "connect",
            with(&[
                ("__connect.errors.topic", b"parking-events"),
                ("__connect.errors.partition", b"0"),
                ("__connect.errors.offset", b"42"),
                ("__connect.errors.stage", b"VALUE_CONVERTER"),
                ("__connect.errors.exception.message", b"busy"),
            ]),
        ),
        (
            "smallrye",
            with(&[
                ("dead-letter-topic", b"parking-events"),
                ("dead-letter-partition", b"0"),
                ("dead-letter-offset", b"42"),
                ("dead-letter-reason", b"busy"),
            ]),
        ),
        (
            "karafka",
            with(&[
                ("source_topic", b"parking-events"),
                ("source_partition", b"0"),
                ("source_offset", b"42"),
                ("source_consumer_group", b"billing"),
            ]),
        ),
    ]
}
