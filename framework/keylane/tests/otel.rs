//! From the producer through retry topic and dead letter in one trace, as OpenTelemetry's exporters
//! see it.
#![cfg(feature = "otel")]
// Clippy allows it in test functions only, not in what they call.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use common::{PATIENCE, eventually};
use keylane::config::Backoff;
use keylane::subscription::SubscriptionBuilder;
use keylane::trace::TraceParent;
use keylane::{DeadLetter, NewTask, Raw, Retry, Subscription, Task, TaskError};
use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};
use opentelemetry::trace::{SpanId, SpanKind, Status, TracerProvider as _};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use tracing::Instrument;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The exporter of everything in this process; tests distinguish their spans by topic.
fn exporter() -> &'static InMemorySpanExporter {
    static EXPORTER: OnceLock<(InMemorySpanExporter, SdkTracerProvider)> = OnceLock::new();
    let (exporter, _) = EXPORTER.get_or_init(|| {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder()
            .with_simple_exporter(exporter.clone())
            .build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing_subscriber::registry().with(layer).init();
        (exporter, provider)
    });
    exporter
}

fn spans(name: &str) -> Vec<SpanData> {
    exporter()
        .get_finished_spans()
        .unwrap()
        .into_iter()
        .filter(|span| span.name == name)
        .collect()
}

/// The only one of its name.
fn span(name: &str) -> SpanData {
    let spans = spans(name);
    assert_eq!(spans.len(), 1, "{name}");
    spans.into_iter().next().unwrap()
}

fn attributes(span: &SpanData) -> BTreeMap<String, String> {
    span.attributes
        .iter()
        .map(|attribute| (attribute.key.to_string(), attribute.value.to_string()))
        .collect()
}

/// Those of the conventions.
fn conventional(span: &SpanData) -> Vec<(String, String)> {
    let all = attributes(span).into_iter();
    all.filter(|(name, _)| name.starts_with("messaging.") || name == "error.type")
        .collect()
}

fn expected(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn broker(topics: &[&str]) -> EmbeddedBroker {
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    for topic in topics {
        broker.create_topic(topic, 1).unwrap();
    }
    broker
}

fn subscribe(broker: &EmbeddedBroker, topic: &str) -> SubscriptionBuilder {
    Subscription::builder(format!("{topic}-group"), topic)
        .bootstrap_servers(broker.bootstrap_servers())
        .kafka_settings(EmbeddedBroker::client_settings())
}

const KEY: &str = "the-secret-key";
const PAYLOAD: &str = "the-secret-payload";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn producer_attempts_retry_topic_dead_letter_and_what_follows_are_one_trace() {
    exporter();
    let broker = broker(&["tasks", "tasks-retry", "tasks-dead", "follow-ups"]);
    let tasks = common::producer(broker.bootstrap_servers(), "tasks").await;
    let request = tracing::info_span!("request");
    tasks
        .enqueue(NewTask::new(PAYLOAD).key(KEY))
        .instrument(request.clone())
        .await
        .unwrap();
    // Only what is called within the span belongs to it.
    let enqueued = request.in_scope(|| tasks.enqueue(NewTask::new(PAYLOAD).key(KEY)));
    enqueued.await.unwrap();
    drop(request);
    tasks.close(PATIENCE).await.unwrap();

    let quick = Backoff::exponential(Duration::from_millis(1), Duration::from_millis(5));
    let failing = subscribe(&broker, "tasks")
        .retry(
            Retry::in_place(0)
                .then_topic()
                .topic_rounds(1)
                .topic_backoff(quick),
        )
        .dead_letter(DeadLetter::topic("tasks-dead"))
        .start(Raw, |task: Task<bytes::Bytes>| async move {
            tokio::task::yield_now().await;
            match task.origin().offset {
                0 => Err(TaskError::retryable(format!(
                    "no use: {:?}",
                    task.payload()
                ))),
                _ => Ok(()),
            }
        })
        .await
        .unwrap();
    let follow_ups = common::producer(broker.bootstrap_servers(), "follow-ups").await;
    let buried = {
        let follow_ups = follow_ups.clone();
        subscribe(&broker, "tasks-dead")
            .start(Raw, move |_: Task<bytes::Bytes>| {
                let follow_ups = follow_ups.clone();
                async move {
                    follow_ups.enqueue(NewTask::new(PAYLOAD).key(KEY)).await?;
                    Ok::<(), TaskError>(())
                }
            })
            .await
            .unwrap()
    };
    eventually("the dead letter is processed", || {
        spans("process tasks-dead").len() == 1
    })
    .await;
    eventually("both tasks are processed", || {
        spans("process tasks").len() == 2
    })
    .await;
    failing.shutdown().await.unwrap();
    buried.shutdown().await.unwrap();
    follow_ups.close(PATIENCE).await.unwrap();

    let request = span("request");
    let sends = spans("send tasks");
    let of_offset = |spans: Vec<SpanData>, offset: &str| -> SpanData {
        spans
            .into_iter()
            .find(|span| attributes(span)["messaging.kafka.offset"] == offset)
            .unwrap()
    };
    let send = of_offset(sends.clone(), "0");
    let first = of_offset(spans("process tasks"), "0");
    let (second, last, follow_up) = (
        span("process tasks-retry"),
        span("process tasks-dead"),
        span("send follow-ups"),
    );

    // The first was called outside of the span and only polled within: an enqueue happens at its
    // call.
    assert_eq!(send.parent_span_id, SpanId::INVALID);
    let other = of_offset(sends, "1");
    assert_eq!(other.parent_span_id, request.span_context.span_id());
    assert_eq!(
        other.span_context.trace_id(),
        request.span_context.trace_id()
    );
    let others_attempt = of_offset(spans("process tasks"), "1");
    assert_eq!(
        others_attempt.span_context.trace_id(),
        request.span_context.trace_id()
    );

    for span in [&first, &second, &last, &follow_up] {
        assert_eq!(
            span.span_context.trace_id(),
            send.span_context.trace_id(),
            "{}",
            span.name
        );
    }
    for attempt in [&first, &second, &last] {
        assert_eq!(attempt.span_kind, SpanKind::Consumer);
        assert_eq!(attempt.parent_span_id, send.span_context.span_id());
        assert!(attempt.parent_span_is_remote);
        let links: Vec<_> = attempt
            .links
            .iter()
            .map(|link| link.span_context.span_id())
            .collect();
        assert_eq!(links, [send.span_context.span_id()]);
    }
    assert_eq!(
        (send.span_kind.clone(), follow_up.span_kind.clone()),
        (SpanKind::Producer, SpanKind::Producer)
    );
    assert_eq!(follow_up.parent_span_id, last.span_context.span_id());

    assert_eq!(
        [&first.status, &second.status],
        [&Status::error(""), &Status::error("")]
    );
    assert_eq!(
        [&last.status, &send.status],
        [&Status::Unset, &Status::Unset]
    );
    assert_eq!(
        conventional(&second),
        expected(&[
            ("error.type", "error"),
            ("messaging.consumer.group.name", "tasks-group"),
            ("messaging.destination.name", "tasks-retry"),
            ("messaging.destination.partition.id", "0"),
            ("messaging.kafka.offset", "0"),
            ("messaging.operation.name", "process"),
            ("messaging.operation.type", "process"),
            ("messaging.system", "kafka"),
        ])
    );
    assert_eq!(
        conventional(&send),
        expected(&[
            ("messaging.destination.name", "tasks"),
            ("messaging.destination.partition.id", "0"),
            ("messaging.kafka.offset", "0"),
            ("messaging.operation.name", "send"),
            ("messaging.operation.type", "send"),
            ("messaging.system", "kafka"),
        ])
    );
    assert!(
        !conventional(&last)
            .iter()
            .any(|(name, _)| name == "error.type")
    );
    let attempts: Vec<_> = [&first, &second, &last]
        .map(|span| attributes(span)["attempt"].clone())
        .into();
    assert_eq!(attempts, ["1", "2", "1"]);
    for span in exporter().get_finished_spans().unwrap() {
        let text = format!("{span:?}");
        assert!(!text.contains(KEY) && !text.contains(PAYLOAD), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_that_the_task_names_itself_is_left_as_it_is_and_linked() {
    exporter();
    let broker = broker(&["own"]);
    let producer = common::producer(broker.bootstrap_servers(), "own").await;
    let parent: TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        .parse()
        .unwrap();
    let named = NewTask::tombstone()
        .key("k")
        .trace_parent(parent)
        .header("tracestate", "vendor=1");
    let damaged = NewTask::new("x")
        .key("k")
        .header("traceparent", "00-ab-cd-01");
    for result in producer.enqueue_all([named, damaged]).await {
        result.unwrap();
    }
    producer.close(PATIENCE).await.unwrap();
    producer.enqueue(NewTask::new("late")).await.unwrap_err();
    let subscription = subscribe(&broker, "own")
        .start(Raw, |_: Task<Option<bytes::Bytes>>| async {
            Ok::<(), TaskError>(())
        });
    let subscription = subscription.await.unwrap();
    eventually("both are processed", || spans("process own").len() == 2).await;
    subscription.shutdown().await.unwrap();

    let attempts = spans("process own");
    let [named, damaged] = &attempts[..] else {
        panic!("{attempts:?}")
    };
    assert_eq!(
        named.span_context.trace_id().to_string(),
        "4bf92f3577b34da6a3ce929d0e0e4736"
    );
    assert_eq!(named.parent_span_id.to_string(), "00f067aa0ba902b7");
    assert_eq!(named.span_context.trace_state().header(), "vendor=1");
    assert_eq!(
        attributes(named)["messaging.kafka.message.tombstone"],
        "true"
    );
    assert_eq!(
        (damaged.parent_span_id, damaged.links.len()),
        (SpanId::INVALID, 0),
        "a trace of its own"
    );

    let sends = spans("send own");
    let links: Vec<_> = sends.iter().map(|send| send.links.iter().next()).collect();
    assert_eq!(
        links[0]
            .map(|link| link.span_context.span_id().to_string())
            .as_deref(),
        Some("00f067aa0ba902b7")
    );
    assert!(links[1].is_none());
    assert_eq!(attributes(&sends[2])["error.type"], "closed");
    assert_eq!(sends[2].status, Status::error(""));
}
