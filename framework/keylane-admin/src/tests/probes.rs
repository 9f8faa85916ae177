//! What the probes answer, state by state.

use super::*;

/// Startup, live and ready: their status codes, then the codes of the reasons of the last.
async fn probe<const N: usize>(subscriptions: [&Arc<Scripted>; N]) -> (u16, u16, u16, Vec<String>) {
    let shared = shared(subscriptions, None);
    let startup = get(&shared, "/health/startup").await;
    let live = get(&shared, "/health/live").await;
    let ready = get(&shared, "/health/ready").await;
    for answer in [&startup, &live, &ready] {
        let expected = if answer.status == StatusCode::OK {
            ["ok", "degraded"].as_slice()
        } else {
            &["failing"]
        };
        assert!(
            expected.contains(&answer.json()["status"].as_str().unwrap()),
            "{}",
            answer.text
        );
    }
    (
        startup.status.as_u16(),
        live.status.as_u16(),
        ready.status.as_u16(),
        codes(&ready),
    )
}

fn codes(answer: &Answer) -> Vec<String> {
    let reasons = answer.json()["reasons"].as_array().unwrap().clone();
    reasons
        .iter()
        .map(|reason| reason["code"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn without_a_subscription_the_process_lives_and_nothing_else() {
    assert_eq!(
        probe([]).await,
        (503, 200, 503, vec!["no_subscription".to_owned()])
    );
}

#[tokio::test]
async fn a_subscription_has_started_when_it_was_assigned_something_or_nothing() {
    let a = subscription("a");
    assert_eq!(
        probe([&a]).await,
        (503, 200, 503, vec!["starting".to_owned()])
    );
    a.change(|status| *status = SubscriptionStatus::new(State::Running));
    assert_eq!(probe([&a]).await, (200, 200, 200, vec![]), "idle by design");
}

#[tokio::test]
async fn one_subscription_that_is_not_ready_is_enough() {
    let (ready, starting) = (running("a"), subscription("b"));
    assert_eq!(
        probe([&ready, &starting]).await,
        (503, 200, 503, vec!["starting".to_owned()])
    );
}

#[tokio::test]
async fn without_an_assignment_it_is_started_and_not_ready() {
    let a = running("a");
    a.change(|status| status.assigned = false);
    assert_eq!(
        probe([&a]).await,
        (200, 200, 503, vec!["not_assigned".to_owned()])
    );
}

#[tokio::test]
async fn idle_for_want_of_the_topic_is_not_idle_by_design() {
    let a = running("a");
    let topic = TroublePlace::Topic("tasks".into());
    a.set_trouble(TroubleKind::MissingTopic, topic, "gone");
    let (_, live, ready, codes) = probe([&a]).await;
    assert_eq!(
        (live, ready, codes[0].as_str()),
        (200, 503, "missing_topic")
    );
    a.set_partition(PartitionStatus::new("tasks", 0));
    let (_, _, ready, codes) = probe([&a]).await;
    assert_eq!(
        (ready, codes),
        (200, vec!["missing_topic".to_owned()]),
        "it has partitions of another topic"
    );
}

#[tokio::test]
async fn a_polling_thread_that_does_not_turn_is_not_alive() {
    let a = running("a");
    a.change(|status| status.polled_ago = Duration::from_secs(31));
    let live = get(&shared([&a], None), "/health/live").await;
    assert_eq!(
        (live.status.as_u16(), codes(&live)),
        (503, vec!["not_polling".to_owned()])
    );
}

#[tokio::test]
async fn closing_and_stopped_are_alive_but_not_ready_and_failed_is_neither() {
    let a = running("a");
    for (state, live, code) in [
        (State::Draining, 200, "closing"),
        (State::Stopped, 200, "stopped"),
        (State::Failed, 503, "failed"),
    ] {
        a.set_state(state);
        assert_eq!(probe([&a]).await, (200, live, 503, vec![code.to_owned()]));
    }
}

#[tokio::test]
async fn stuck_blocked_parked_and_isolated_work_is_named_and_does_not_fail() {
    let a = running("a");
    let mut status = stuck(3, 75);
    status.snapshot.parked = 2;
    status.snapshot.isolated = true;
    a.set_partition(status);
    let (startup, live, ready, _) = probe([&a]).await;
    assert_eq!((startup, live, ready), (200, 200, 200));

    let answer = get(&shared([&a], None), "/health/live").await;
    assert_eq!(
        codes(&answer),
        [
            "partition_stalled",
            "owner_blocked",
            "records_parked",
            "isolated_after_crash"
        ]
    );
    let stalled = &answer.json()["reasons"][0];
    assert_eq!(stalled["severity"], "degraded");
    assert_eq!(
        (
            &stalled["subscription"],
            &stalled["topic"],
            &stalled["partition"]
        ),
        (&"a".into(), &"tasks".into(), &3.into())
    );
    assert_eq!(
        stalled["text"],
        "no progress for 75 s: the commit waits for offset 43"
    );
}

#[tokio::test]
async fn a_bad_deployment_is_named_and_so_are_good_records_that_may_wait_behind_it() {
    let a = running("a");
    for window_full in [false, true] {
        let mut outage = outage(&[OutageKind::BadDeployment]);
        outage.window_full = window_full;
        a.change(|status| status.outage = Some(outage));
        let answer = get(&shared([&a], None), "/health/ready").await;
        assert_eq!(codes(&answer), ["bad_deployment"]);
        let json = answer.json();
        let text = json["reasons"][0]["text"].as_str().unwrap();
        assert!(text.contains("5 records are held"), "{text}");
        let says_so = text.ends_with("good records may wait behind them");
        assert_eq!(says_so, window_full, "{text}");
    }
}

#[tokio::test]
async fn the_number_of_held_records_is_said_once_however_many_outages_go_on() {
    let a = running("a");
    a.change(|status| status.outage = Some(outage(&[OutageKind::Total, OutageKind::Place])));
    let answer = get(&shared([&a], None), "/health/live").await;
    let texts: Vec<_> = answer.json()["reasons"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["text"].to_string())
        .collect();
    assert_eq!(codes(&answer), ["outage", "outage"], "{texts:?}");
    assert_eq!(
        texts
            .iter()
            .filter(|text| text.contains("records are held"))
            .count(),
        1,
        "{texts:?}"
    );
}

#[tokio::test]
async fn brokers_away_pauses_and_an_outage_are_degraded() {
    let a = running("a");
    a.change(|status| {
        status.state = State::Paused;
        status.outage = Some(outage(&[OutageKind::Total]));
    });
    a.set_trouble(TroubleKind::Connection, TroublePlace::Broker(1), "down");
    a.set_trouble(TroubleKind::Commit, TroublePlace::Coordinator, "refused");
    let expected = ["paused", "outage", "broker_away", "commits_failing"]
        .map(str::to_owned)
        .to_vec();
    assert_eq!(probe([&a]).await, (200, 200, 200, expected));

    a.set_state(State::Running);
    a.change(|status| status.troubles.clear());
    a.set_partition(partition(0, |status| status.paused_by_user = true));
    let expected = ["outage", "partition_paused"].map(str::to_owned).to_vec();
    assert_eq!(probe([&a]).await, (200, 200, 200, expected));
}

/// It is no stall, so nothing else would remind of it.
#[tokio::test]
async fn a_key_that_an_operator_has_paused_is_degraded() {
    let a = running("a");
    a.set_partition(partition(0, |status| status.snapshot.paused_keys = 2));
    assert_eq!(
        probe([&a]).await,
        (200, 200, 200, vec!["keys_paused".to_owned()])
    );
}

#[tokio::test]
async fn a_partition_without_a_position_is_degraded() {
    let a = running("a");
    a.set_partition(partition(0, |status| {
        status.paused = true;
        status.paused_by = Some(PausedBy::NoPosition);
    }));
    assert_eq!(
        probe([&a]).await,
        (200, 200, 200, vec!["no_position".to_owned()])
    );
}

#[tokio::test]
async fn a_partition_that_is_deaf_because_records_are_not_due_is_degraded() {
    let a = running("a");
    let mut full = partition(0, |status| {
        status.snapshot.pending = 10_499;
        status.snapshot.waiting = 10_400;
        status.snapshot.not_due = 10_450;
        status.paused = true;
        status.paused_by = Some(PausedBy::NotDue);
    });
    a.set_partition(full.clone());
    assert_eq!(
        probe([&a]).await,
        (200, 200, 200, vec!["paused_by_not_due".to_owned()])
    );
    let answer = get(&shared([&a], None), "/health/ready").await;
    let text = answer.json()["reasons"][0]["text"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        text.starts_with("10450 of 10499 pending records are not due"),
        "{text}"
    );
    full.paused_by = Some(PausedBy::PendingRecords);
    a.set_partition(full);
    assert_eq!(
        probe([&a]).await,
        (200, 200, 200, vec![]),
        "an ordinary backlog"
    );
}

#[tokio::test]
async fn reasons_are_bounded_and_those_that_fail_come_first() {
    let (many, second) = (running("a"), subscription("b"));
    for number in 0..200 {
        many.set_partition(partition(number, |status| status.snapshot.parked = 1));
    }
    let answer = get(&shared([&many, &second], None), "/health/ready").await;
    let (codes, health) = (codes(&answer), answer.json());
    assert_eq!(
        (codes.len(), codes[0].as_str(), &health["omitted"]),
        (100, "starting", &101.into())
    );
    let text = &health["reasons"][1]["text"];
    assert_eq!(text, "1 record is parked, and its key waits");
}
