//! The quickstart on a real Apache Kafka.

mod common;

use common::{Run, count, quickstart, something_is_done};
use keylane_integration_tests::kafka::Nodes;
use keylane_integration_tests::own_kafka_or_skip;

/// On a Kafka of its own: the names of topics and groups are fixed, so what else is there would
/// matter.
#[test]
fn a_run_adds_up_also_behind_what_an_interrupted_one_left() {
    let kafka = own_kafka_or_skip!(Nodes::One);
    let bootstrap = kafka.bootstrap_servers();

    let mut first = Run::start(&format!(
        "--bootstrap {bootstrap} --events 6000 --partitions 3 --concurrency 1"
    ));
    first.wait_for_line(something_is_done);
    first.interrupt();
    let first = first.finish();
    assert!(
        first.passed && first.report.contains("PASSED as far as it went"),
        "{}",
        first.report
    );
    let left = count(&first.report, "unprocessed").unwrap();
    assert!(left > 0, "{}", first.report);

    let second = quickstart(&format!("--bootstrap {bootstrap} --events 5000 --seed 2"));
    assert!(
        second.passed && second.report.contains("PASSED, all as planned (seed 2)"),
        "{}",
        second.report
    );
    assert_eq!(
        count(&second.report, "enqueued"),
        Some(5_000),
        "{}",
        second.report
    );
    assert_eq!(
        count(&second.report, "duplicates"),
        Some(0),
        "{}",
        second.report
    );
    assert!(
        count(&second.report, "leftovers").is_some_and(|requests| requests > 0),
        "{}",
        second.report
    );
}
