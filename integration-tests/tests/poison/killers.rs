//! One killer, in all its kinds: how many starts it takes.

use keylane_integration_tests::{
    for_protocols,
    kafka::{Extras, Nodes},
    kafka_or_skip,
    protocol::Protocol,
    wait::wait_for,
};

use super::suite::{DEADLINE, Suite, healthy, record};

/// Among the records of three partitions.
async fn one_killer(protocol: Protocol, killer: &str) {
    let kafka = kafka_or_skip!(Nodes::One, Extras::quick_sessions());
    let mut suite = Suite::new(kafka, "one-killer", 3).await;
    suite.protocol = protocol;
    let mut records = healthy(3, 40);
    records.insert(55, record(1, "1-3", killer.to_owned()));
    suite.write(records).await;
    let starts = suite.restart_until_done(120).await;
    assert!(starts <= 5, "{starts} starts");
    suite.expect_poison(&[killer]).await;
    assert_eq!(suite.runs(killer), starts - 1, "each crash is the killer's");
}

for_protocols! { one_killer("abort:1"):
    a_record_that_aborts_is_found_by_the_fifth_start_and_nobody_else_is_blamed: Cooperative,
    with_the_consumer_protocol_a_killer_is_found_by_the_fifth_start_too: Consumer,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killer_on_the_retry_topic_is_found_too() {
    let kafka = kafka_or_skip!(Nodes::One, Extras::quick_sessions());
    let suite = Suite::new(kafka, "retried", 2)
        .await
        .with_retry_topic(2)
        .await;
    let mut records = healthy(2, 20);
    records.insert(30, record(1, "1-4", "fail-then-abort:1".to_owned()));
    suite.write(records).await;
    let starts = suite
        .restart_until(async || suite.done() == 40 && suite.logged("poison: the process ended"))
        .await;
    assert!(starts <= 5, "{starts} starts");
    suite.expect_poison(&["fail-then-abort:1"]).await;
    let dead = suite.dead().await;
    let origin = (
        dead[0].header("keylane-origin-topic"),
        dead[0].header("keylane-attempts"),
    );
    assert_eq!(
        origin,
        (Some(&*suite.topic), Some("3")),
        "one that failed, and two crashes that named it"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_dead_letter_topic_the_killer_is_parked_and_stays_so_over_a_restart() {
    let kafka = kafka_or_skip!(Nodes::One, Extras::quick_sessions());
    let mut suite = Suite::new(kafka, "parked", 1).await;
    suite.dead_letters = None;
    let mut records = healthy(1, 20);
    records.insert(10, record(0, "alone", "abort:1".to_owned()));
    suite.write(records).await;
    let is_found = "poison: the process ended";
    let starts = suite
        .restart_until(async || suite.done() == 20 && suite.logged(is_found))
        .await;
    assert!(starts <= 5, "{starts} starts");
    let ran = suite.runs("abort:1");
    let mut member = suite.start(Some("one"));
    suite
        .write(vec![record(0, "later", "good:later".to_owned())])
        .await;
    wait_for("the later record is processed", DEADLINE, async || {
        assert_eq!(member.died(), None, "the parked record ran again");
        (suite.done() == 21).then_some(())
    })
    .await;
    member.terminate().await;
    assert_eq!(suite.runs("abort:1"), ran);
}
