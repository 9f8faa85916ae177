//! The scenarios about metrics: what a stuck partition looks like, and that nothing is left of a
//! closed subscription.

use std::sync::OnceLock;

use bytes::Bytes;
use keylane::config::Limits;
use keylane::{
    Raw, Retry, Subscription, Task, TaskError,
    metrics::{
        PrometheusEndpoint,
        names::{self, MetricDef},
        serve_prometheus,
    },
};
use keylane_integration_tests::{
    gate::Gate,
    kafka::{Extras, Kafka, NewRecord, Nodes},
    kafka_or_skip,
    wait::wait_until,
};

use crate::suite::DEADLINE;

/// The recorder is one for the process, so the tests distinguish their series by the subscription's
/// name.
fn endpoint() -> &'static PrometheusEndpoint {
    static ENDPOINT: OnceLock<PrometheusEndpoint> = OnceLock::new();
    ENDPOINT.get_or_init(|| serve_prometheus(0).unwrap())
}

/// The series of a subscription with these labels: their text and value.
fn series(metric: &MetricDef, subscription: &str, labels: &[&str]) -> Vec<(String, f64)> {
    let own = format!("subscription=\"{subscription}\"");
    let text = endpoint().handle().render();
    let lines = text
        .lines()
        .filter(|line| line.starts_with(&format!("{}{{", metric.name)) && line.contains(&own));
    lines
        .filter(|line| labels.iter().all(|label| line.contains(label)))
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series.to_owned(), value.parse().unwrap())
        })
        .collect()
}

fn sum(metric: &MetricDef, subscription: &str, labels: &[&str]) -> f64 {
    series(metric, subscription, labels)
        .iter()
        .map(|(_, value)| value)
        .sum()
}

/// A subscription to a topic of its own, and what it works on.
struct Watched {
    name: String,
    member: Subscription,
    gate: Gate,
}

impl Watched {
    /// `each` records in each partition, the keys all different. Those in `stuck` wait at the gate;
    /// those in `failing` are done with after one failure.
    async fn start(
        kafka: &Kafka,
        partitions: i32,
        each: usize,
        stuck: fn(i64) -> bool,
        failing: fn(i64) -> bool,
    ) -> Self {
        endpoint();
        let (topic, name) = (kafka.unique("metrics"), kafka.unique("watched"));
        kafka
            .create_topic(&topic, partitions, 3, &[])
            .await
            .unwrap();
        let record = |number: usize, partition| NewRecord {
            partition: Some(partition),
            ..NewRecord::keyed(format!("{partition}-{number}"), number.to_string())
        };
        let records = (0..each)
            .flat_map(|number| (0..partitions).map(move |partition| record(number, partition)));
        kafka.produce(&topic, records.collect()).await.unwrap();
        let gate = Gate::closed();
        let processor = {
            let gate = gate.clone();
            move |task: Task<Bytes>| {
                let gate = gate.clone();
                async move {
                    if stuck(task.offset()) {
                        gate.passed().await;
                    }
                    if failing(task.offset()) && task.attempt() == 1 {
                        return Err(TaskError::retryable("once"));
                    }
                    Ok(())
                }
            }
        };
        let limits = Limits::default().settled_ahead(100);
        let builder = Subscription::builder(kafka.unique("group"), &topic)
            .bootstrap_servers(kafka.bootstrap_servers())
            .name(&name)
            .limits(limits)
            .retry(Retry::in_place(3));
        Self {
            name,
            member: builder.start(Raw, processor).await.unwrap(),
            gate,
        }
    }

    fn sum(&self, metric: &MetricDef, labels: &[&str]) -> f64 {
        sum(metric, &self.name, labels)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_stuck_partitions_show_as_three_paused_ones() {
    let kafka = kafka_or_skip!(Nodes::Three, Extras::patient());
    let watched = Watched::start(kafka, 3, 1_000, |offset| offset == 0, |_| false).await;
    wait_until("three partitions are paused", DEADLINE, || {
        watched.sum(&names::PAUSED, &[]) == 3.0
    })
    .await;
    wait_until("each shows its stuck record", DEADLINE, || {
        watched.sum(&names::RUNNING_ATTEMPTS, &[]) == 3.0
    })
    .await;
    watched.gate.open();
    wait_until("none is paused", DEADLINE, || {
        watched.sum(&names::PAUSED, &[]) == 0.0
    })
    .await;
    wait_until("all are done", DEADLINE, || {
        watched.sum(&names::SETTLED, &["outcome=\"done\""]) == 3_000.0
    })
    .await;
    watched.member.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_record_shows_between_the_watermark_and_what_was_delivered() {
    let kafka = kafka_or_skip!(Nodes::Three, Extras::patient());
    let watched = Watched::start(kafka, 1, 10, |offset| offset == 1, |_| false).await;
    let shows = |metric, expected: f64| {
        let series = series(metric, &watched.name, &[]);
        series.len() == 1 && series[0].1 == expected
    };
    wait_until("the gauges show it", DEADLINE, || {
        shows(&names::WATERMARK_OFFSET, 1.0)
            && shows(&names::DELIVERED_OFFSET, 9.0)
            && shows(&names::SETTLED_AHEAD, 8.0)
            && shows(&names::PENDING_RECORDS, 1.0)
    })
    .await;
    watched.gate.open();
    wait_until("the watermark goes on", DEADLINE, || {
        shows(&names::WATERMARK_OFFSET, 10.0)
    })
    .await;
    watched.member.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn successes_and_failures_are_counted_apart() {
    let kafka = kafka_or_skip!(Nodes::Three, Extras::patient());
    let watched = Watched::start(kafka, 2, 100, |_| false, |offset| offset < 30).await;
    wait_until("all are done", DEADLINE, || {
        watched.sum(&names::SETTLED, &["outcome=\"done\""]) == 200.0
    })
    .await;
    assert_eq!(watched.sum(&names::SETTLED, &[]), 200.0);
    let attempts = |result: &str| watched.sum(&names::ATTEMPTS, &[&format!("result=\"{result}\"")]);
    assert_eq!((attempts("ok"), attempts("error")), (200.0, 60.0));
    assert_eq!(watched.sum(&names::ATTEMPTS, &[]), 260.0);
    assert_eq!(watched.sum(&names::RETRIES, &["place=\"in_place\""]), 60.0);
    watched.member.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_subscription_leaves_no_gauges_of_partitions() {
    let kafka = kafka_or_skip!(Nodes::Three, Extras::patient());
    let watched = Watched::start(kafka, 3, 50, |_| false, |_| false).await;
    wait_until("all are done", DEADLINE, || {
        watched.sum(&names::SETTLED, &["outcome=\"done\""]) == 150.0
    })
    .await;
    let gauges = || -> Vec<(String, f64)> {
        let of_partitions = names::ALL.iter().filter(|metric| {
            metric.kind.as_str() == "gauge"
                && metric.labels.iter().any(|label| label.name == "partition")
        });
        of_partitions
            .flat_map(|metric| series(metric, &watched.name, &[]))
            .collect()
    };
    assert!(gauges().len() >= 3 * 10, "{:?}", gauges());
    let name = watched.name.clone();
    watched
        .member
        .handle()
        .shutdown_within(DEADLINE)
        .await
        .unwrap();
    assert_eq!(gauges(), []);
    assert_eq!(
        sum(&names::SETTLED, &name, &[]),
        150.0,
        "what was counted stays"
    );
}
