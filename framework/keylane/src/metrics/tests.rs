//! The table of metrics against the handles, and both against real recorders.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ::metrics::{Unit, with_local_recorder};
use keylane_core::{PausedBy, Position, RecordState, RetryTier, Settlement};
use metrics_util::MetricKind as RecordedKind;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

use super::labels::LabelValue;
use super::names::{ALL, MetricDef, MetricKind};
use super::*;
use crate::status::{ControlStatus, InFlight, Oldest, OwnerFigures, PartitionStatus, State};

const SECOND: Duration = Duration::from_secs(1);

fn labels(partition: i32) -> MetricLabels<'static> {
    MetricLabels {
        subscription: "parking-notifier",
        topic: "parking-events",
        partition,
    }
}

/// Every handle of a process with one subscription and one partition.
struct Handles {
    partition: PartitionMetrics,
    read: ReadMetrics,
    subscription: SubscriptionMetrics,
    poll: PollMetrics,
}

impl Handles {
    fn new() -> Self {
        Self {
            partition: PartitionMetrics::new(&labels(0)),
            read: ReadMetrics::new(&labels(0)),
            subscription: SubscriptionMetrics::new("parking-notifier"),
            poll: PollMetrics::new("parking-notifier"),
        }
    }

    /// Calls every method with every label value, once each, so that every counter ends at 1.
    fn record_everything(&mut self) {
        let Self {
            partition,
            read,
            subscription,
            poll,
        } = self;
        each(|outcome| partition.settled(outcome, 1));
        each(|result| partition.attempt(result, SECOND));
        partition.queue_wait(SECOND);
        partition.delivery_latency(SECOND);
        partition.due_lateness(SECOND);
        each(|tier| partition.retry_wait(tier, SECOND));
        partition.starved(SECOND);
        each(|place| partition.retried(place, 1));
        each(|reason| partition.dead_lettered(reason, 1));
        partition.held(1);
        partition.poison_suspected(1);
        partition.repeated_deliveries(1);
        partition.commit_metadata_truncated();
        each(|reason| partition.commit_metadata_unreadable(reason));
        partition.show(&figures());
        partition.flush();

        let start = Instant::now();
        read.delivered(1);
        read.handed_back(1);
        read.show(&status());
        read.topic_recreated();
        read.log_cut();
        read.passed_over(1);
        read.set_paused(true, start);
        read.set_paused(true, start + SECOND / 2);
        read.set_paused(false, start + SECOND);

        subscription.committed();
        each(|kind| subscription.commit_failed(kind));
        each(|event| subscription.rebalance(event));
        subscription.set_assigned_partitions(1);
        each(|result| subscription.drained(result, SECOND));
        each(|target| each(|kind| subscription.produce_failed(target, kind)));
        each(|kind| subscription.consumer_error(kind));
        subscription.set_state(State::Running);
        subscription.set_outages(|_| true);
        subscription.set_held_records(1);
        subscription.set_in_flight(Some(InFlight::new(1, 1)));
        subscription.set_dead_letter_topic_records(Some(1));
        subscription.set_open_dead_letters(Some(1));
        subscription.set_control(Some(&ControlStatus::new("control", 1)), 1);
        poll.set_last_poll(SECOND);
        each(|section| poll.section(section, SECOND));
        poll.flush();
    }

    fn touch(&mut self) {
        self.partition.touch();
        self.read.touch();
        self.subscription.touch();
        self.poll.touch();
    }
}

/// What an owner publishes, with a 1 wherever there is a number.
fn figures() -> OwnerFigures {
    let mut figures = OwnerFigures {
        oldest: Some(Oldest {
            offset: 42,
            key_hash: None,
            attempts: 1,
            state: RecordState::Running,
            since: Instant::now(),
            last_error: None,
        }),
        watermark_age: SECOND,
        ..OwnerFigures::default()
    };
    let it = &mut figures.snapshot;
    it.watermark = Some(Position::new(42));
    for figure in [
        &mut it.settled_ahead,
        &mut it.pending,
        &mut it.pending_bytes,
        &mut it.running,
        &mut it.waiting_lanes,
        &mut it.parked,
        &mut it.paused_keys,
        &mut it.held_up,
        &mut it.slow_attempts,
    ] {
        *figure = 1;
    }
    it.stalled_for = Some(SECOND);
    it.isolated = true;
    for tier in RetryTier::ALL {
        it.waiting_for.add(tier);
    }
    figures
}

/// The same of what the polling thread publishes.
fn status() -> PartitionStatus {
    PartitionStatus {
        snapshot: figures().snapshot,
        paused: true,
        paused_by: Some(PausedBy::NotDue),
        paused_by_user: true,
        delivered_offset: Some(42),
        lag_records: Some(3),
        lag_age: Some(SECOND),
        workable_lag_age: Some(SECOND),
        withheld_records: 1,
        blocked_for: Some(SECOND),
        ..PartitionStatus::new("parking-events", 0)
    }
}

fn each<V: LabelValue>(call: impl FnMut(V)) {
    V::ALL.iter().copied().for_each(call);
}

/// Recorded series by name and labels.
fn snapshot(snapshotter: &Snapshotter) -> BTreeMap<(String, Vec<(String, String)>), DebugValue> {
    let series = snapshotter.snapshot().into_vec().into_iter();
    series
        .map(|(key, _, _, value)| {
            let labels = key
                .key()
                .labels()
                .map(|label| (label.key().to_owned(), label.value().to_owned()));
            ((key.key().name().to_owned(), labels.collect()), value)
        })
        .collect()
}

/// Every combination of the bounded labels of a metric, as sorted text.
fn expected_series(def: &MetricDef) -> BTreeSet<String> {
    let mut all = BTreeSet::from([def.name.to_owned()]);
    for label in def.labels {
        let configured = match label.name {
            "subscription" => &["parking-notifier"][..],
            "topic" => &["parking-events"],
            "partition" => &["0"],
            "version" => &[env!("CARGO_PKG_VERSION")],
            _ => &[],
        };
        let values = if label.values.is_empty() {
            configured
        } else {
            label.values
        };
        all = all
            .iter()
            .flat_map(|text| {
                values
                    .iter()
                    .map(move |value| format!("{text} {}={value}", label.name))
            })
            .collect();
    }
    all
}

#[test]
fn names_follow_the_rules_of_prometheus() {
    for def in ALL {
        let name = def.name;
        assert!(name.starts_with("keylane_"), "{name}");
        assert!(
            name.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
            "{name}"
        );
        assert!(!name.contains("__") && !name.ends_with('_'), "{name}");
        assert_eq!(
            name.ends_with("_total"),
            def.kind == MetricKind::Counter,
            "{name}"
        );
        for reserved in ["_sum", "_count", "_bucket", "_info_total"] {
            assert!(!name.ends_with(reserved), "{name}");
        }
        let base = name.strip_suffix("_total").unwrap_or(name);
        for (unit, suffix) in [(Unit::Seconds, "_seconds"), (Unit::Bytes, "_bytes")] {
            assert_eq!(base.ends_with(suffix), def.unit == unit, "{name}");
        }
        assert!(
            matches!(def.unit, Unit::Count | Unit::Seconds | Unit::Bytes),
            "{name}: not a base unit"
        );
        assert!(
            def.help.len() > 10 && def.help.ends_with('.') || def.help.ends_with("label."),
            "{name}: {}",
            def.help
        );
        assert!(!def.help.contains(['\n', '\\']), "{name}");
    }
    let names: BTreeSet<_> = ALL.iter().map(|def| def.name).collect();
    assert_eq!(names.len(), ALL.len(), "a name is there twice");
}

#[test]
fn labels_are_few_and_bounded() {
    for def in ALL {
        for label in def.labels {
            let configured =
                ["subscription", "topic", "partition", "version"].contains(&label.name);
            assert_eq!(
                label.values.is_empty(),
                configured,
                "{} {}",
                def.name,
                label.name
            );
            assert!(label.values.len() <= 8, "{} {}", def.name, label.name);
            for text in label.values.iter().chain([&label.name]) {
                assert!(
                    text.bytes()
                        .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
                    "{text}"
                );
            }
            assert!(!["le", "quantile"].contains(&label.name));
        }
        let names: BTreeSet<_> = def.labels.iter().map(|label| label.name).collect();
        assert_eq!(names.len(), def.labels.len(), "{}", def.name);
    }
}

#[test]
fn histograms_and_only_they_have_ascending_buckets() {
    for def in ALL {
        assert_eq!(
            !def.buckets.is_empty(),
            def.kind == MetricKind::Histogram,
            "{}",
            def.name
        );
        assert!(def.buckets.is_sorted_by(|a, b| a < b), "{}", def.name);
        assert!(def.buckets.len() <= 20, "{}", def.name);
    }
}

#[test]
fn the_handles_record_every_series_of_the_table_and_no_other() {
    let recorder = DebuggingRecorder::new();
    with_local_recorder(&recorder, || Handles::new().record_everything());

    let mut recorded: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (key, unit, help, _) in recorder.snapshotter().snapshot().into_vec() {
        let name = key.key().name().to_owned();
        let def = ALL
            .iter()
            .find(|def| def.name == name)
            .unwrap_or_else(|| panic!("{name} is not in the table"));
        let kind = match def.kind {
            MetricKind::Counter => RecordedKind::Counter,
            MetricKind::Gauge => RecordedKind::Gauge,
            MetricKind::Histogram => RecordedKind::Histogram,
        };
        assert_eq!(key.kind(), kind, "{name}");
        assert_eq!(
            (unit, help.as_deref()),
            (Some(def.unit), Some(def.help)),
            "{name}"
        );
        let series = key.key().labels().fold(name.clone(), |text, l| {
            format!("{text} {}={}", l.key(), l.value())
        });
        assert!(recorded.entry(name).or_default().insert(series));
    }
    for def in ALL {
        assert_eq!(
            recorded.get(def.name),
            Some(&expected_series(def)),
            "{}",
            def.name
        );
    }
}

#[test]
fn each_method_moves_its_own_series() {
    let recorder = DebuggingRecorder::new();
    let values = with_local_recorder(&recorder, || {
        let mut handles = Handles::new();
        handles.record_everything();
        snapshot(&recorder.snapshotter())
    });
    // `record_everything` calls each method once for each label value, so a method that moved a
    // neighbour's series would leave one at 0 and another at 2.
    for ((name, labels), value) in &values {
        let expected = match (
            name.as_str(),
            labels.last().map(|(_, value)| value.as_str()),
        ) {
            ("keylane_offset_lag_records", _) => 3.0,
            ("keylane_workable_lag_records", _) => 2.0,
            ("keylane_watermark_offset" | "keylane_delivered_offset", _) => 42.0,
            ("keylane_paused", _) => 0.0,
            ("keylane_subscription_state" | "keylane_watermark_state", state) => {
                f64::from(u8::from(state == Some("running")))
            }
            _ => 1.0,
        };
        match value {
            DebugValue::Counter(count) => assert_eq!(*count as f64, expected, "{name} {labels:?}"),
            DebugValue::Gauge(gauge) => assert_eq!(gauge.0, expected, "{name} {labels:?}"),
            DebugValue::Histogram(samples) => {
                // One for each result but the undecodable.
                let count = if name == "keylane_attempt_duration_seconds" {
                    6
                } else {
                    1
                };
                let samples: Vec<f64> = samples.iter().map(|sample| sample.0).collect();
                assert_eq!(samples, vec![1.0; count], "{name} {labels:?}");
            }
        }
    }
}

#[test]
fn what_is_unknown_is_no_number_also_at_the_end() {
    let last = |name: &'static str, calls: fn(&SubscriptionMetrics)| {
        let recorder = DebuggingRecorder::new();
        with_local_recorder(&recorder, || {
            calls(&SubscriptionMetrics::new("parking-notifier"))
        });
        let values = snapshot(&recorder.snapshotter()).into_iter();
        let mut found = values.filter(|((it, _), _)| it == name);
        found.next().map(|(_, value)| match value {
            DebugValue::Gauge(gauge) => gauge.0,
            other => panic!("{other:?}"),
        })
    };
    let size = "keylane_dead_letter_topic_records";
    let never = last(size, |metrics| metrics.set_dead_letter_topic_records(None));
    assert_eq!(never, None);
    let known_once = last(size, |metrics| {
        metrics.set_dead_letter_topic_records(Some(3));
        metrics.set_dead_letter_topic_records(None);
        metrics.touch();
    });
    assert!(known_once.is_some_and(f64::is_nan), "{known_once:?}");
    let ended = last(size, |metrics| {
        metrics.set_dead_letter_topic_records(Some(3));
    });
    assert!(ended.is_some_and(f64::is_nan), "{ended:?}");
    let open = last("keylane_open_dead_letters", |metrics| {
        metrics.set_open_dead_letters(Some(3));
        metrics.set_open_dead_letters(None);
    });
    assert!(open.is_some_and(f64::is_nan), "{open:?}");
}

#[test]
fn nothing_buffered_is_lost_on_drop_and_gauges_end_at_zero() {
    let recorder = DebuggingRecorder::new();
    with_local_recorder(&recorder, || {
        let mut metrics = PartitionMetrics::new(&labels(0));
        metrics.settled(Settlement::Done, 5);
        metrics.queue_wait(SECOND);
        metrics.show(&figures());
    });
    let values = snapshot(&recorder.snapshotter());
    let value = |name: &str, last: &str| {
        let found = values
            .iter()
            .find(|((n, labels), _)| n == name && labels.last().is_some_and(|l| l.1 == last));
        found
            .map(|(_, value)| value)
            .unwrap_or_else(|| panic!("no {name} {last}"))
    };
    assert_eq!(
        *value("keylane_settled_total", "done"),
        DebugValue::Counter(5)
    );
    assert_eq!(
        *value("keylane_queue_wait_seconds", "0"),
        DebugValue::Histogram(vec![1.0.into()])
    );
    assert_eq!(
        *value("keylane_pending_records", "0"),
        DebugValue::Gauge(0.0.into())
    );
}

#[test]
fn a_gauge_without_a_value_is_not_shown() {
    let recorder = DebuggingRecorder::new();
    with_local_recorder(&recorder, || {
        ReadMetrics::new(&labels(0)).show(&PartitionStatus::new("parking-events", 0));
    });
    let shown = snapshot(&recorder.snapshotter());
    let of_lag = |name: &str| name.contains("_lag_") && !name.contains("transaction");
    assert!(!shown.keys().any(|(name, _)| of_lag(name)), "{shown:?}");
    assert!(
        shown
            .keys()
            .any(|(name, _)| name == "keylane_slow_attempts")
    );
}

#[test]
fn fractions_of_paused_seconds_are_carried_over() {
    let recorder = DebuggingRecorder::new();
    with_local_recorder(&recorder, || {
        let mut read = ReadMetrics::new(&labels(0));
        let start = Instant::now();
        for step in 0..=10 {
            // On for 0.7 s, off for 0.3 s.
            read.set_paused(true, start + step * SECOND);
            read.set_paused(false, start + step * SECOND + SECOND * 7 / 10);
        }
    });
    let values = snapshot(&recorder.snapshotter());
    let total = values
        .iter()
        .find(|((name, _), _)| name == "keylane_paused_seconds_total")
        .map(|(_, value)| value);
    assert_eq!(total, Some(&DebugValue::Counter(7)));
}

#[test]
fn handles_made_before_the_recorder_find_it_when_touched() {
    let mut handles = Handles::new();
    handles.record_everything();
    let recorder = DebuggingRecorder::new();
    with_local_recorder(&recorder, || {
        handles.touch();
        handles.partition.settled(Settlement::Done, 2);
        handles.partition.flush();
    });
    let values = snapshot(&recorder.snapshotter());
    let names: BTreeSet<_> = values.keys().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ALL.iter().map(|def| def.name).collect());
    assert!(
        values
            .values()
            .any(|value| *value == DebugValue::Counter(2))
    );
    assert!(
        values
            .iter()
            .any(|((name, _), v)| name.ends_with("workable_lag_records")
                && *v == DebugValue::Gauge(2.0.into()))
    );
}

#[cfg(feature = "prometheus")]
mod with_prometheus {
    use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};

    use super::*;

    /// An exporter of the user's own, with the buckets of the table.
    fn plain_exporter() -> PrometheusBuilder {
        ALL.iter()
            .filter(|def| def.kind == MetricKind::Histogram)
            .fold(PrometheusBuilder::new(), |builder, def| {
                let name = Matcher::Full(def.name.to_owned());
                builder.set_buckets_for_metric(name, def.buckets).unwrap()
            })
    }

    /// Every metric once with its help and its type.
    fn assert_complete(text: &str) {
        for def in ALL {
            let head = format!(
                "# HELP {0} {1}\n# TYPE {0} {2}\n",
                def.name,
                def.help,
                def.kind.as_str()
            );
            assert_eq!(text.matches(&head).count(), 1, "{head}{text}");
        }
        assert_eq!(text.matches("# TYPE keylane_").count(), ALL.len());
    }

    fn samples(text: &str) -> BTreeSet<&str> {
        text.lines()
            .filter(|line| line.starts_with("keylane_"))
            .collect()
    }

    #[test]
    fn our_recorder_and_the_plain_exporter_render_the_same() {
        let ours = PrometheusRecorder::builder().build();
        let plain = plain_exporter().build_recorder();
        let mut handles = with_local_recorder(&ours, Handles::new);
        with_local_recorder(&ours, || handles.record_everything());
        let mut plain_handles = with_local_recorder(&plain, Handles::new);
        with_local_recorder(&plain, || plain_handles.record_everything());

        let (text, plain_text) = (ours.handle().render(), plain.handle().render());
        assert_complete(&text);
        assert_complete(&plain_text);
        assert_eq!(samples(&text), samples(&plain_text));
    }

    #[test]
    fn an_exporter_with_recommended_naming_changes_no_name() {
        let recorder = plain_exporter()
            .with_recommended_naming(true)
            .build_recorder();
        let mut handles = with_local_recorder(&recorder, Handles::new);
        with_local_recorder(&recorder, || handles.record_everything());
        assert_complete(&recorder.handle().render());
    }

    #[test]
    fn our_recorder_counts_every_sample_of_a_busy_turn() {
        let recorder = PrometheusRecorder::builder().build();
        let mut metrics = with_local_recorder(&recorder, || PartitionMetrics::new(&labels(0)));
        for _ in 0..10_000 {
            metrics.queue_wait(Duration::from_millis(2));
        }
        metrics.flush();
        let text = recorder.handle().render();
        let series = "{subscription=\"parking-notifier\",topic=\"parking-events\",partition=\"0\"}";
        assert!(
            text.contains(&format!("keylane_queue_wait_seconds_count{series} 10000\n")),
            "{text}"
        );
        assert!(
            text.contains(&format!("keylane_queue_wait_seconds_sum{series} 20\n")),
            "{text}"
        );
    }

    #[test]
    fn a_given_up_partition_shows_no_gauge_and_its_neighbour_keeps_everything() {
        let recorder = PrometheusRecorder::builder().build();
        let handle = recorder.handle();
        let (mut leaving, mut staying) = with_local_recorder(&recorder, || {
            (
                PartitionMetrics::new(&labels(0)),
                PartitionMetrics::new(&labels(1)),
            )
        });
        with_local_recorder(&recorder, || {
            let mut figures = figures();
            figures.snapshot.pending = 5;
            leaving.show(&figures);
            figures.snapshot.pending = 6;
            staying.show(&figures);
        });
        let pending = |text: &str| {
            text.lines()
                .filter(|line| line.starts_with("keylane_pending_records{"))
                .count()
        };
        assert_eq!(pending(&handle.render()), 2);
        drop(leaving);
        let text = handle.render();
        assert_eq!(pending(&text), 1);
        assert!(text.contains("partition=\"1\"} 6\n"));
    }

    /// The plain exporter's clock cannot be replaced from outside, so the time-out is short and the
    /// test waits for it.
    #[test]
    fn in_the_plain_exporter_an_idle_partition_disappears_and_a_touched_one_stays() {
        let recorder = plain_exporter()
            .idle_timeout(
                metrics_util::MetricKindMask::ALL,
                Some(Duration::from_millis(300)),
            )
            .build_recorder();
        let handle = recorder.handle();
        with_local_recorder(&recorder, || {
            let leaving = PartitionMetrics::new(&labels(0));
            let mut staying = PartitionMetrics::new(&labels(1));
            staying.settled(Settlement::Done, 3);
            staying.flush();
            let before = handle.render();
            assert!(before.contains("partition=\"0\"") && before.contains("partition=\"1\""));
            drop(leaving);

            let deadline = Instant::now() + Duration::from_secs(30);
            loop {
                staying.touch();
                let text = handle.render();
                let done = "partition=\"1\",outcome=\"done\"} 3\n";
                assert!(text.contains(done), "a live counter went missing:\n{text}");
                if !text.contains("partition=\"0\"") {
                    break;
                }
                assert!(Instant::now() < deadline, "still there:\n{text}");
                std::thread::yield_now();
            }
        });
    }

    #[test]
    fn metrics_of_the_process_itself_are_rendered_too() {
        let recorder = PrometheusRecorder::builder().build();
        with_local_recorder(&recorder, || {
            ::metrics::counter!("requests_total", "path" => "/").increment(4);
            // A name of ours, but not the kind: it must not end up under the same name twice.
            ::metrics::gauge!("keylane_settled_total").set(1.0);
        });
        let text = recorder.handle().render();
        assert!(text.contains("requests_total{path=\"/\"} 4\n"), "{text}");
        assert!(!text.contains("keylane_settled_total"), "{text}");
    }
}
