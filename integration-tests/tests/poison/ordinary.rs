//! What is no killer: deployments and unlucky kills.

use keylane_core::Evidence;
use keylane_integration_tests::{
    kafka::{Extras, NewRecord, Nodes},
    kafka_or_skip,
    wait::wait_for,
};
use rustix::process::Signal;

use super::suite::{DEADLINE, Suite, evidence, healthy, record};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orderly_restarts_and_unlucky_kills_blame_nobody() {
    let kafka = kafka_or_skip!(Nodes::One, Extras::quick_sessions());
    let suite = Suite::new(kafka, "ordinary", 2).await;
    let mut written = 0;
    // A record is always in flight, and two kills in a row are part of it.
    for kills in [false, true, false, true, true, false, false] {
        let records = healthy(2, 30).into_iter().enumerate();
        let round = |(id, record): (usize, NewRecord)| NewRecord {
            value: Some(format!("good:{written}-{id}").into()),
            ..record
        };
        suite.write(records.map(round).collect()).await;
        written += 60;
        let member = suite.start(Some("one"));
        let at_least = written - 40;
        wait_for("some of it is processed", DEADLINE, async || {
            (suite.done() >= at_least).then_some(())
        })
        .await;
        if kills {
            member.kill().await;
        } else {
            member.terminate().await;
        }
    }
    assert_eq!(suite.restart_until_done(written).await, 1);
    assert!(suite.dead().await.is_empty());
    assert!(!suite.logged("poison:"));
    // The last member may have been done before it knew where the log ends, and that there is no
    // more to be careful about.
    let group = suite.group();
    let member = suite.start(Some("one"));
    wait_for("the kills are forgotten", DEADLINE, async || {
        let committed = kafka.committed(&group, &suite.topic).await.unwrap();
        let forgotten = |evidence: Evidence| evidence.unclean_starts == 0;
        committed
            .iter()
            .all(|committed| evidence(committed).is_some_and(forgotten))
            .then_some(())
    })
    .await;
    member.terminate().await;
    // The evidence that is left has nothing running and no suspect.
    for committed in kafka.committed(&group, &suite.topic).await.unwrap() {
        assert_eq!(
            (committed.offset, evidence(&committed)),
            (Some(written as i64 / 2), Some(Evidence::default()))
        );
    }
}

/// As supervisors do whose patience is shorter than the shutdown's: the signal to end, and then the
/// kill.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_slower_than_the_patience_of_its_deployments_is_not_blamed() {
    let kafka = kafka_or_skip!(Nodes::One, Extras::quick_sessions());
    let mut suite = Suite::new(kafka, "impatient", 1).await;
    suite.patient = true;
    suite.write(vec![record(0, "k", "hang:1".to_owned())]).await;
    for round in 0..5 {
        let member = suite.start(Some("one"));
        wait_for("it runs", DEADLINE, async || {
            (suite.runs("hang:1") > round).then_some(())
        })
        .await;
        member.signal(Signal::TERM);
        suite.mark_is_taken_back().await;
        member.kill().await;
    }
    assert!(
        suite.dead().await.is_empty() && !suite.logged("ended without giving it up"),
        "{}",
        suite.logs()
    );
}
