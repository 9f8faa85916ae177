//! Each fault raises its alert, and no other.

use std::{sync::Arc, time::Duration};

use keylane::record::KeyHash;
use keylane_integration_tests::{
    kafka::{self, Nodes},
    kafka_or_skip,
    members::operations::{ABORT, CLOSED, DOWN, DOWN_SAYS, HANG},
    wait::wait_for,
};

use super::{
    prometheus::program,
    scene::{DEADLINE, Scene},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_key_raises_watermark_stalled_and_nothing_else() {
    let Some(prometheus) = program("prometheus") else {
        return;
    };
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = Scene::new(kafka, "stuck-key", &prometheus, 1).await;
    let member = scene.start(0);
    scene.runs_well().await;
    scene.begin(CLOSED);
    scene.write(1, "the-stuck-one", HANG).await;
    scene.only(&["KeylaneWatermarkStalled"]).await;
    let which = scene
        .answer(r#"ALERTS{alertname="KeylaneWatermarkStalled"}"#)
        .await;
    assert_eq!(
        which
            .iter()
            .map(|alert| alert.label("partition"))
            .collect::<Vec<_>>(),
        ["1"]
    );
    let [ready, oldest] = &scene.calls_of("KeylaneWatermarkStalled.md", 0).await[..] else {
        panic!("not two calls")
    };
    let reasons = ready["reasons"].as_array().unwrap();
    let all_name_it = !reasons.is_empty() && reasons.iter().all(|reason| reason["partition"] == 1);
    assert!(ready["status"] == "degraded" && all_name_it, "{ready}");
    let oldest = &oldest["records"][0];
    let is_it =
        oldest["key_hash"] == KeyHash::of(b"the-stuck-one").to_string() && oldest["partition"] == 1;
    assert!(is_it && oldest["state"] == "running", "{oldest}");
    scene.end(CLOSED);
    scene.calms_down().await;
    member.leave().await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_downstream_raises_retry_storm_and_outage_and_nothing_else() {
    let Some(prometheus) = program("prometheus") else {
        return;
    };
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = Scene::new(kafka, "dead-downstream", &prometheus, 2).await;
    let members = [scene.start(0), scene.start(1)];
    scene.runs_well().await;
    scene.begin(DOWN);
    // A dead letter of the moment before five keys have failed, if any, is reported as well.
    scene
        .only_beside(
            &["KeylaneOutage", "KeylaneRetryStorm"],
            &["KeylaneDeadLettersGrowing"],
        )
        .await;
    // What the runbook sends people to the log for.
    let log = scene.logged();
    let told = |line: &&str| {
        line.contains("WARN") && line.contains("attempt failed") && line.contains(DOWN_SAYS)
    };
    let lines = log.lines().filter(told).count();
    assert!(lines > 0, "the log does not show why attempts fail: {log}");
    let failed = scene
        .answer(r#"sum(keylane_attempts_total{result="error"})"#)
        .await[0]
        .value();
    assert!(
        (lines as f64) < failed / 10.0,
        "{lines} lines of {failed} failed attempts"
    );
    scene.end(DOWN);
    scene.calms_down().await;
    for member in members {
        member.leave().await;
    }
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_kills_its_process_raises_poison_found_and_nothing_else() {
    let Some(prometheus) = program("prometheus") else {
        return;
    };
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = Scene::new(kafka, "poison", &prometheus, 1).await;
    let mut member = scene.start(0);
    scene.runs_well().await;
    scene.write(2, "the-killer", ABORT).await;
    let mut deaths = 0;
    let dead = format!("{}-dead", scene.topic);
    let is_dead_letter = wait_for("the killer is a dead letter", DEADLINE, async || {
        (!scene.kafka.read_all(&dead).await.ok()?.is_empty()).then_some(())
    });
    // At once, as a supervisor does: a member that stays down raises another alert.
    let supervisor = async {
        while deaths <= 10 {
            if member.has_died() {
                deaths += 1;
                member = scene.start(0);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = is_dead_letter => {}
        () = supervisor => panic!("it dies again and again"),
    }
    assert!(deaths > 0);
    scene.only(&["KeylanePoisonFound"]).await;
    member.leave().await;
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_broker_raises_commits_failing_and_nothing_else() {
    let Some(prometheus) = program("prometheus") else {
        return;
    };
    let Some(kafka) = kafka::own(Nodes::One) else {
        return;
    };
    let scene = Scene::new(Arc::new(kafka), "lost-broker", &prometheus, 1).await;
    let member = scene.start(0);
    scene.runs_well().await;
    scene.kafka.kill_node(0).await.unwrap();
    scene.only(&["KeylaneCommitsFailing"]).await;
    scene.kafka.start_node(0).await.unwrap();
    scene.calms_down().await;
    member.leave().await;
    scene.finish().await;
}
