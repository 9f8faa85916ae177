//! What a subscriber of `tracing` gets of attempts and of what is given up, and that the trace
//! context stays with its record.
// Clippy allows it in test functions only, not in what they call.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime};

use common::{PATIENCE, eventually};
use keylane::config::{Backoff, Exhausted, FailureReason, KeyInSpans, Limits, Tracing};
use keylane::processing::processor_fn;
use keylane::record::KeyHash;
use keylane::status::PausedBy;
use keylane::subscription::SubscriptionBuilder;
use keylane::testing::TestTask;
use keylane::trace::TraceParent;
use keylane::{
    DeadLetter, Headers, Json, NewTask, Processor, Raw, Retry, Subscription, Success, Task,
    TaskError, layers,
};
use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

type Fields = BTreeMap<String, String>;

/// A span that has closed, or an event.
#[derive(Clone, Debug)]
struct Seen {
    name: &'static str,
    target: &'static str,
    level: Level,
    fields: Fields,
    /// The fields of the spans around it, innermost first.
    within: Vec<Fields>,
}

/// Everything that closed or happened in this process.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<Seen>>>);

struct Reading<'a>(&'a mut Fields);

impl Visit for Reading<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::new();
        attributes.record(&mut Reading(&mut fields));
        context.span(id).unwrap().extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let span = context.span(id).unwrap();
        values.record(&mut Reading(
            span.extensions_mut().get_mut::<Fields>().unwrap(),
        ));
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::new();
        event.record(&mut Reading(&mut fields));
        let around = context.event_scope(event).into_iter().flatten();
        let within = around
            .map(|span| span.extensions().get::<Fields>().unwrap().clone())
            .collect();
        let (metadata, level) = (event.metadata(), *event.metadata().level());
        let seen = Seen {
            name: metadata.name(),
            target: metadata.target(),
            level,
            fields,
            within,
        };
        self.0.lock().unwrap().push(seen);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let span = context.span(&id).unwrap();
        let fields = span.extensions().get::<Fields>().unwrap().clone();
        let within = span
            .scope()
            .skip(1)
            .map(|span| span.extensions().get::<Fields>().unwrap().clone())
            .collect();
        let (metadata, level) = (span.metadata(), *span.metadata().level());
        let seen = Seen {
            name: metadata.name(),
            target: metadata.target(),
            level,
            fields,
            within,
        };
        self.0.lock().unwrap().push(seen);
    }
}

impl Recorder {
    fn of_this_process() -> &'static Self {
        static RECORDER: OnceLock<Recorder> = OnceLock::new();
        RECORDER.get_or_init(|| {
            let recorder = Recorder::default();
            tracing_subscriber::registry().with(recorder.clone()).init();
            recorder
        })
    }

    fn all(&self) -> Vec<Seen> {
        self.0.lock().unwrap().clone()
    }

    fn attempts(&self, topic: &str) -> Vec<Seen> {
        let mine = |seen: &Seen| seen.name == "keylane.process" && seen.fields["topic"] == topic;
        self.all().into_iter().filter(mine).collect()
    }
}

fn subscribe(broker: &EmbeddedBroker, topic: &str) -> SubscriptionBuilder {
    Subscription::builder(format!("{topic}-group"), topic)
        .bootstrap_servers(broker.bootstrap_servers())
        .kafka_settings(EmbeddedBroker::client_settings())
        // A member that gets no CPU for a while is not to be thrown out: nothing may come twice.
        .kafka("session.timeout.ms", "6000")
}

fn broker(topics: &[&str]) -> EmbeddedBroker {
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    for topic in topics {
        broker.create_topic(topic, 1).unwrap();
    }
    broker
}

const KEY: &str = "the-secret-key";
const PAYLOAD: &str = "the-secret-payload";

/// In a program whose one thread is in a span of its own all the time: it must not be around the
/// attempts.
#[test]
fn an_attempt_is_a_span_around_what_the_processor_logs() {
    let recorder = Recorder::of_this_process();
    let _program = tracing::info_span!("program").entered();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(four_attempts(recorder));
}

async fn four_attempts(recorder: &Recorder) {
    let broker = broker(&["spans"]);
    let producer = common::producer(broker.bootstrap_servers(), "spans").await;
    producer
        .enqueue(NewTask::json(PAYLOAD).unwrap().key(KEY))
        .await
        .unwrap();
    producer.close(PATIENCE).await.unwrap();
    let quick = Backoff::exponential(Duration::from_millis(1), Duration::from_millis(5));
    let subscription = subscribe(&broker, "spans")
        .name("watched")
        .attempt_timeout(Duration::from_secs(5))
        .retry(Retry::in_place(10).backoff(quick))
        .start(Json, |task: Task<String>| async move {
            tracing::info!(name: "at first", "polled in place");
            match task.attempt() {
                1 => return Err(TaskError::retryable("not yet")),
                2 => panic!("two"),
                3 => std::future::pending().await,
                _ => {}
            }
            tokio::task::yield_now().await;
            tracing::info!(name: "later", "in a task of its own");
            Ok(Success::skipped("enough"))
        })
        .await
        .unwrap();
    eventually("all attempts have ended", || {
        recorder.attempts("spans").len() == 4
    })
    .await;
    subscription.shutdown().await.unwrap();

    let attempts = recorder.attempts("spans");
    let results: Vec<_> = attempts
        .iter()
        .map(|seen| (&*seen.fields["attempt"], &*seen.fields["result"]))
        .collect();
    assert_eq!(
        results,
        [
            ("1", "error"),
            ("2", "panic"),
            ("3", "timeout"),
            ("4", "skip")
        ]
    );
    for attempt in &attempts {
        assert_eq!(
            (attempt.target, attempt.level),
            ("keylane::process", Level::INFO)
        );
        assert!(attempt.within.is_empty(), "{attempt:?}");
        let field = |name: &str| attempt.fields.get(name).map(String::as_str);
        assert_eq!(
            [field("subscription"), field("partition"), field("offset")],
            [Some("watched"), Some("0"), Some("0")]
        );
        assert_eq!(field("key_hash"), None);
    }
    let events = |name: &str| -> Vec<_> {
        let events = recorder.all().into_iter().filter(|seen| seen.name == name);
        events
            .map(|seen| seen.within[0]["attempt"].clone())
            .collect()
    };
    assert_eq!(events("at first"), ["1", "2", "3", "4"]);
    assert_eq!(events("later"), ["4"]);
    for seen in recorder
        .all()
        .iter()
        .filter(|seen| seen.target.starts_with("keylane"))
    {
        let text = format!("{seen:?}");
        assert!(!text.contains(KEY) && !text.contains(PAYLOAD), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_is_dropped_before_its_time_says_so() {
    let recorder = Recorder::of_this_process();
    let broker = broker(&["dropped"]);
    let producer = common::producer(broker.bootstrap_servers(), "dropped").await;
    producer
        .enqueue(NewTask::new(PAYLOAD).key(KEY))
        .await
        .unwrap();
    producer.close(PATIENCE).await.unwrap();
    let started = Arc::new(tokio::sync::Semaphore::new(0));
    let subscription = {
        let started = started.clone();
        subscribe(&broker, "dropped")
            .tracing(Tracing::default().key(KeyInSpans::Hashed))
            .shutdown_timeout(Duration::from_millis(100))
            .start(Raw, move |_: Task<bytes::Bytes>| {
                let started = started.clone();
                async move {
                    started.add_permits(1);
                    std::future::pending::<Result<(), TaskError>>().await
                }
            })
            .await
            .unwrap()
    };
    tokio::time::timeout(PATIENCE, started.acquire())
        .await
        .unwrap()
        .unwrap()
        .forget();
    subscription.shutdown().await.unwrap();
    eventually("the span has closed", || {
        recorder.attempts("dropped").len() == 1
    })
    .await;
    let fields = &recorder.attempts("dropped")[0].fields;
    assert_eq!(fields["result"], "dropped");
    assert_eq!(fields["key_hash"], KeyHash::of(KEY.as_bytes()).to_string());
}

#[tokio::test]
async fn the_layer_of_fields_names_the_task_on_the_lines_of_its_work_and_a_fail_over_is_a_line() {
    let recorder = Recorder::of_this_process();
    let push = processor_fn(|_: Task<&str>| {
        tracing::info!(name: "pushes", "before the future is polled");
        async {
            tokio::task::yield_now().await;
            tracing::info!(name: "pushed", "while it is polled");
            Err::<(), _>(TaskError::unavailable("connection refused"))
        }
    });
    let sms = processor_fn(async |_: Task<&str>| {
        tracing::info!(name: "pushed", "by SMS");
        Ok(())
    });
    let fields = layers::Fields::default().header("tenant").header("absent");
    let notify = push.layered(layers::Failover::to(sms)).layered(fields);
    let headers: Headers = [("tenant", "t".repeat(200)), ("other", "x".to_owned())]
        .into_iter()
        .collect();
    for offset in [7, 8] {
        let task = TestTask::new(PAYLOAD)
            .key(KEY)
            .headers(headers.clone())
            .message_id("m-7")
            .at("fields", 3, offset)
            .build();
        notify.process(task).await.unwrap();
    }

    let named = |name| {
        recorder
            .all()
            .into_iter()
            .filter(move |seen| seen.name == name)
    };
    let mut lines = 0;
    for seen in named("pushes").chain(named("pushed")) {
        let task = &seen.within[0];
        assert_eq!(task["message_id"], "m-7");
        assert_eq!(task["key_hash"], KeyHash::of(KEY.as_bytes()).to_string());
        assert_eq!(task["headers"], format!("tenant={}", "t".repeat(128)));
        assert!(["fields-3@7", "fields-3@8"].contains(&&*task["origin"]));
        lines += 1;
    }
    assert_eq!(lines, 6);
    let is_mine =
        |seen: &Seen| seen.within.is_empty() && seen.fields["origin"].starts_with("fields");
    assert_eq!(named("keylane.task").filter(is_mine).count(), 2);

    // In an outage each record fails over: a line in 30 s, with the number of others.
    let warnings = lines_of(recorder, "attempt fails over", Level::WARN);
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0]["error"], "connection refused");
    assert_eq!(warnings[0]["left_out"], "0");
    assert_eq!(
        lines_of(recorder, "attempt fails over", Level::DEBUG).len(),
        1
    );
}

fn lines_of(recorder: &Recorder, message: &str, level: Level) -> Vec<Fields> {
    lines(recorder, message, level, "fields")
}

/// The log lines about these records at this level.
fn lines(recorder: &Recorder, message: &str, level: Level, topic: &str) -> Vec<Fields> {
    let is_it = |fields: &Fields| {
        let text = |name: &str| fields.get(name).map_or("", String::as_str);
        text("message").starts_with(message) && text("topic") == topic
    };
    let mine = recorder
        .all()
        .into_iter()
        .filter(|seen| seen.level == level)
        .map(|seen| seen.fields);
    mine.filter(is_it).collect()
}

/// The sum of the lines that summaries count as left out.
fn left_out(recorder: &Recorder, message: &str, subscription: &str) -> usize {
    let summaries = recorder
        .all()
        .into_iter()
        .map(|seen| seen.fields)
        .filter(|fields| {
            let text = |name: &str| fields.get(name).map_or("", String::as_str);
            text("message").starts_with(message) && text("subscription") == subscription
        });
    summaries
        .map(|fields| fields["left_out"].parse::<usize>().unwrap())
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_dead_letter_is_a_warning_or_counted_as_left_out() {
    const RECORDS: usize = 40;
    const MESSAGE: &str = "a record is given up";
    let recorder = Recorder::of_this_process();
    let broker = broker(&["given-up", "given-up-dead"]);
    let producer = common::producer(broker.bootstrap_servers(), "given-up").await;
    for number in 0..RECORDS {
        producer
            .enqueue(NewTask::new(PAYLOAD).key(format!("k{number}")))
            .await
            .unwrap();
    }
    producer.close(PATIENCE).await.unwrap();
    let subscription = subscribe(&broker, "given-up")
        .name("gives-up")
        .dead_letter(DeadLetter::topic("given-up-dead"))
        // By name, or the guard suspects a bad deployment behind so many and holds the rest.
        .retry(Retry::in_place(1).on(FailureReason::Fatal, Exhausted::DeadLetter))
        .start(Raw, |_: Task<bytes::Bytes>| async {
            Err::<(), _>(TaskError::fatal("the gateway says 400"))
        })
        .await
        .unwrap();
    let all = |level| lines(recorder, MESSAGE, level, "given-up");
    eventually("all are dead letters", || {
        all(Level::WARN).len() + all(Level::DEBUG).len() == RECORDS
    })
    .await;
    subscription.shutdown().await.unwrap();

    let warned = all(Level::WARN);
    assert!(warned.len() >= 10, "{} lines", warned.len());
    assert_eq!(
        warned.len() + left_out(recorder, "more records were dead-lettered", "gives-up"),
        RECORDS
    );
    // Acknowledgements come in any order.
    for line in &warned {
        let field = |name: &str| line.get(name).map(String::as_str);
        let key_hash = KeyHash::of(format!("k{}", field("offset").unwrap()).as_bytes()).to_string();
        assert_eq!(
            [field("partition"), field("attempts"), field("reason")],
            [Some("0"), Some("1"), Some("fatal")]
        );
        assert_eq!(
            [field("key_hash"), field("error")],
            [Some(&*key_hash), Some("the gateway says 400")]
        );
        assert!(
            field("written_to").unwrap().starts_with("given-up-dead-0@"),
            "{line:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_parked_record_is_an_error_or_counted_as_left_out() {
    const RECORDS: usize = 30;
    const MESSAGE: &str = "a record is parked";
    let recorder = Recorder::of_this_process();
    let broker = broker(&["parks"]);
    let producer = common::producer(broker.bootstrap_servers(), "parks").await;
    for number in 0..RECORDS {
        producer
            .enqueue(NewTask::new(PAYLOAD).key(format!("k{number}")))
            .await
            .unwrap();
    }
    producer.close(PATIENCE).await.unwrap();
    let subscription = subscribe(&broker, "parks")
        .name("parks-them")
        .retry(Retry::in_place(1).on(FailureReason::Fatal, Exhausted::Park))
        .start(Raw, |_: Task<bytes::Bytes>| async {
            Err::<(), _>(TaskError::fatal("the gateway says 400"))
        })
        .await
        .unwrap();
    let all = |level| lines(recorder, MESSAGE, level, "parks");
    eventually("all are parked", || {
        all(Level::ERROR).len() + all(Level::DEBUG).len() == RECORDS
    })
    .await;
    subscription.shutdown().await.unwrap();

    let said = all(Level::ERROR);
    assert!(said.len() >= 10, "{} lines", said.len());
    assert_eq!(
        said.len() + left_out(recorder, "more records were parked", "parks-them"),
        RECORDS
    );
    assert_eq!((&*said[0]["partition"], &*said[0]["attempts"]), ("0", "1"));
    assert_eq!(
        (&*said[0]["error"], &*said[0]["why"]),
        ("the gateway says 400", "the policy is to park (fatal)")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_retry_that_is_left_to_its_group_is_a_warning_or_counted_as_left_out() {
    const RECORDS: usize = 30;
    const MESSAGE: &str = "a retry is left to the group";
    let recorder = Recorder::of_this_process();
    let broker = broker(&["left", "left-retry", "left-dead"]);
    let producer = common::producer(broker.bootstrap_servers(), "left").await;
    for number in 0..RECORDS {
        producer
            .enqueue(NewTask::new(PAYLOAD).key(format!("k{number}")))
            .await
            .unwrap();
    }
    producer.close(PATIENCE).await.unwrap();
    let quick = Backoff::exponential(Duration::from_millis(1), Duration::from_millis(5));
    let start = |group: &'static str, failures: u32| {
        Subscription::builder(group, "left")
            .bootstrap_servers(broker.bootstrap_servers())
            .kafka_settings(EmbeddedBroker::client_settings())
            .kafka("session.timeout.ms", "6000")
            .dead_letter(DeadLetter::topic("left-dead"))
            .retry(Retry::none().then_topic().topic_backoff(quick))
            .start(Raw, move |task: Task<bytes::Bytes>| {
                let fails = task.attempt() <= failures;
                async move {
                    if fails {
                        Err(TaskError::retryable("not now"))
                    } else {
                        Ok(())
                    }
                }
            })
    };
    let other = start("leaves-them", 0).await.unwrap();
    let owner = start("left-to", 1).await.unwrap();
    let all = |level| lines(recorder, MESSAGE, level, "left-retry");
    eventually("all are left", || {
        all(Level::WARN).len() + all(Level::DEBUG).len() == RECORDS
    })
    .await;
    other.shutdown().await.unwrap();
    owner.shutdown().await.unwrap();

    let said = all(Level::WARN);
    assert!(said.len() >= 10, "{} lines", said.len());
    assert_eq!(
        said.len() + left_out(recorder, "more retries were left", "leaves-them"),
        RECORDS
    );
    assert!(
        said.iter()
            .all(|line| line["group"] == "left-to" && line["partition"] == "0"),
        "{said:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_are_not_due_and_keep_a_partition_from_being_read_are_a_warning_once() {
    let recorder = Recorder::of_this_process();
    let broker = broker(&["deaf"]);
    let producer = common::producer(broker.bootstrap_servers(), "deaf").await;
    let hour = SystemTime::now() + Duration::from_secs(3600);
    // One is enough: what is settled behind it fills a limit of its own.
    producer
        .enqueue(NewTask::new(PAYLOAD).key("reminder").not_before(hour))
        .await
        .unwrap();
    for number in 0..200 {
        producer
            .enqueue(NewTask::new(PAYLOAD).key(format!("k{number}")))
            .await
            .unwrap();
    }
    producer.close(PATIENCE).await.unwrap();
    let limits = Limits::default().settled_ahead(100);
    let subscription = subscribe(&broker, "deaf")
        .limits(limits)
        .start(Raw, |_: Task<bytes::Bytes>| async {
            Ok::<(), TaskError>(())
        })
        .await
        .unwrap();
    let told = || {
        lines(
            recorder,
            "reading is paused: records that are not due",
            Level::WARN,
            "deaf",
        )
    };
    eventually("it is reported", || !told().is_empty()).await;
    eventually("the status has it", || {
        subscription.status().partitions[0].paused_by == Some(PausedBy::NotDue)
    })
    .await;
    subscription.shutdown().await.unwrap();
    assert_eq!((told().len(), &*told()[0]["not_due"]), (1, "1"));
}

const TRACE_PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_trace_context_of_a_record_goes_with_it_to_the_retry_topic_and_into_the_dead_letter() {
    let broker = broker(&["traced", "traced-retry", "traced-dead"]);
    let parent: TraceParent = TRACE_PARENT.parse().unwrap();
    let producer = common::producer(broker.bootstrap_servers(), "traced").await;
    let task = NewTask::new("x")
        .key("k")
        .trace_parent(parent)
        .header("tracestate", "vendor=1,other=2");
    producer.enqueue(task).await.unwrap();
    producer.close(PATIENCE).await.unwrap();

    type Told = Arc<Mutex<Vec<(String, u32, Option<TraceParent>, Option<String>)>>>;
    let told = Told::default();
    let tell = |told: &Told, task: &Task<bytes::Bytes>| {
        let state = task.headers().last_str("tracestate").map(str::to_owned);
        told.lock().unwrap().push((
            task.topic().to_owned(),
            task.attempt(),
            task.trace_parent(),
            state,
        ));
    };
    let quick = Backoff::exponential(Duration::from_millis(1), Duration::from_millis(5));
    let failing = {
        let told = told.clone();
        subscribe(&broker, "traced")
            .retry(
                Retry::none()
                    .then_topic()
                    .topic_rounds(2)
                    .topic_backoff(quick),
            )
            .dead_letter(DeadLetter::topic("traced-dead"))
            .start(Raw, move |task: Task<bytes::Bytes>| {
                tell(&told, &task);
                async { Err::<(), _>(TaskError::retryable("never")) }
            })
            .await
            .unwrap()
    };
    let buried = {
        let told = told.clone();
        subscribe(&broker, "traced-dead")
            .start(Raw, move |task: Task<bytes::Bytes>| {
                tell(&told, &task);
                async { Ok::<(), TaskError>(()) }
            })
            .await
            .unwrap()
    };
    eventually("the dead letter is read", || {
        told.lock().unwrap().len() >= 4
    })
    .await;
    failing.shutdown().await.unwrap();
    buried.shutdown().await.unwrap();
    let expected = |topic: &str, attempt| {
        (
            topic.to_owned(),
            attempt,
            Some(parent),
            Some("vendor=1,other=2".to_owned()),
        )
    };
    assert_eq!(
        *told.lock().unwrap(),
        [
            expected("traced", 1),
            expected("traced-retry", 2),
            expected("traced-retry", 3),
            expected("traced-dead", 1)
        ]
    );
}
