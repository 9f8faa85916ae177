//! What the probes answer, state by state.

use super::*;

/// Startup, live and ready: their status codes, then the codes of the reasons of the last.
async fn probe(handles: &[&SubscriptionHandle]) -> (u16, u16, u16, Vec<String>) {
    let shared = shared(handles.iter().copied().cloned().collect(), None);
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

fn running(name: &str) -> (Arc<Control>, SubscriptionHandle) {
    let (control, handle) = subscription(name);
    control.set_assigned(true);
    control.set_state(State::Running);
    (control, handle)
}

#[tokio::test]
async fn without_a_subscription_the_process_lives_and_nothing_else() {
    assert_eq!(
        probe(&[]).await,
        (503, 200, 503, vec!["no_subscription".to_owned()])
    );
}

#[tokio::test]
async fn a_subscription_has_started_when_it_was_assigned_something_or_nothing() {
    let (control, handle) = subscription("a");
    assert_eq!(
        probe(&[&handle]).await,
        (503, 200, 503, vec!["starting".to_owned()])
    );
    control.set_assigned(true);
    control.set_state(State::Running);
    assert_eq!(
        probe(&[&handle]).await,
        (200, 200, 200, vec![]),
        "idle by design"
    );
}

#[tokio::test]
async fn one_subscription_that_is_not_ready_is_enough() {
    let ((_, ready), (_, starting)) = (running("a"), subscription("b"));
    assert_eq!(
        probe(&[&ready, &starting]).await,
        (503, 200, 503, vec!["starting".to_owned()])
    );
}

#[tokio::test]
async fn without_an_assignment_it_is_started_and_not_ready() {
    let (control, handle) = running("a");
    control.set_assigned(false);
    assert_eq!(
        probe(&[&handle]).await,
        (200, 200, 503, vec!["not_assigned".to_owned()])
    );
}

#[tokio::test]
async fn idle_for_want_of_the_topic_is_not_idle_by_design() {
    let (control, handle) = running("a");
    control.troubles.note(
        TroubleKind::MissingTopic,
        TroublePlace::Topic("tasks".into()),
        "gone",
    );
    let (_, live, ready, codes) = probe(&[&handle]).await;
    assert_eq!(
        (live, ready, codes[0].as_str()),
        (200, 503, "missing_topic")
    );
    control.set_partition(PartitionStatus::new("tasks", 0));
    let (_, _, ready, codes) = probe(&[&handle]).await;
    assert_eq!(
        (ready, codes),
        (200, vec!["missing_topic".to_owned()]),
        "it has partitions of another topic"
    );
}

#[tokio::test]
async fn a_polling_thread_that_does_not_turn_is_not_alive() {
    let (_control, handle) = running("a");
    let shared = Shared {
        polling_limit: Duration::ZERO,
        ..Arc::into_inner(shared(vec![handle], None)).unwrap()
    };
    let live = get(&Arc::new(shared), "/health/live").await;
    assert_eq!(
        (live.status.as_u16(), codes(&live)),
        (503, vec!["not_polling".to_owned()])
    );
}

#[tokio::test]
async fn closing_and_stopped_are_alive_but_not_ready_and_failed_is_neither() {
    let (control, handle) = running("a");
    for (state, live, code) in [
        (State::Draining, 200, "closing"),
        (State::Stopped, 200, "stopped"),
        (State::Failed, 503, "failed"),
    ] {
        control.set_state(state);
        assert_eq!(
            probe(&[&handle]).await,
            (200, live, 503, vec![code.to_owned()])
        );
    }
}

#[tokio::test]
async fn stuck_blocked_parked_and_isolated_work_is_named_and_does_not_fail() {
    let (control, handle) = running("a");
    let mut status = partition(3, 75);
    status.snapshot.parked = 2;
    status.snapshot.isolated = true;
    control.set_partition(status);
    let (startup, live, ready, _) = probe(&[&handle]).await;
    assert_eq!((startup, live, ready), (200, 200, 200));

    let answer = get(&shared(vec![handle], None), "/health/live").await;
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
    let guard = guard_after(Failure::Undecodable, 25);
    let control = Arc::new(Control::new(Duration::ZERO).named("a").guarded_by(guard));
    control.set_assigned(true);
    control.set_state(State::Running);
    let handle = SubscriptionHandle::of(control.clone());
    let text = async || {
        let answer = get(&shared(vec![handle.clone()], None), "/health/ready").await;
        assert_eq!(codes(&answer), ["bad_deployment"]);
        answer.json()["reasons"][0]["text"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let told = text().await;
    assert!(
        told.contains("5 records are held") && !told.contains("good records"),
        "{told}"
    );
    let paused_by = |cause| PartitionStatus {
        paused: true,
        paused_by: Some(cause),
        ..PartitionStatus::new("tasks", 0)
    };
    control.set_partition(paused_by(PausedBy::HandOver));
    let told = text().await;
    assert!(
        !told.contains("good records"),
        "no limit is reached: {told}"
    );
    control.set_partition(paused_by(PausedBy::PendingRecords));
    let told = text().await;
    assert!(
        told.ends_with("good records may wait behind them"),
        "{told}"
    );
    handle.release_held();
    assert!(control.outages.guard().state(Moment::ORIGIN).released);
}

#[tokio::test]
async fn the_number_of_held_records_is_said_once_however_many_outages_go_on() {
    let handle = SubscriptionHandle::of(Arc::new(
        Control::new(Duration::ZERO).guarded_by(two_outages()),
    ));
    let answer = get(&shared(vec![handle], None), "/health/live").await;
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
    let guard = guard_after(Failure::Retryable, 9);
    let control = Arc::new(Control::new(Duration::ZERO).named("a").guarded_by(guard));
    let handle = SubscriptionHandle::of(control.clone());
    control.set_assigned(true);
    control.set_state(State::Paused);
    control
        .troubles
        .note(TroubleKind::Connection, TroublePlace::Broker(1), "down");
    control
        .troubles
        .note(TroubleKind::Commit, TroublePlace::Coordinator, "refused");
    let expected = ["paused", "outage", "broker_away", "commits_failing"]
        .map(str::to_owned)
        .to_vec();
    assert_eq!(probe(&[&handle]).await, (200, 200, 200, expected));

    control.set_state(State::Running);
    control.troubles.passed(&TroublePlace::Broker(1));
    control.troubles.passed(&TroublePlace::Coordinator);
    control.set_partition(PartitionStatus {
        paused_by_user: true,
        ..PartitionStatus::new("tasks", 0)
    });
    let expected = ["outage", "partition_paused"].map(str::to_owned).to_vec();
    assert_eq!(probe(&[&handle]).await, (200, 200, 200, expected));
}

#[tokio::test]
async fn a_partition_without_a_position_is_degraded() {
    let (control, handle) = running("a");
    let paused_by = Some(PausedBy::NoPosition);
    control.set_partition(PartitionStatus {
        paused: true,
        paused_by,
        ..PartitionStatus::new("tasks", 0)
    });
    assert_eq!(
        probe(&[&handle]).await,
        (200, 200, 200, vec!["no_position".to_owned()])
    );
}

#[tokio::test]
async fn a_partition_that_is_deaf_because_records_are_not_due_is_degraded() {
    let (control, handle) = running("a");
    let full = PartitionStatus {
        snapshot: snapshot(|it| {
            (it.pending, it.waiting, it.not_due) = (10_499, 10_400, 10_450);
        }),
        paused: true,
        paused_by: Some(PausedBy::NotDue),
        ..PartitionStatus::new("tasks", 0)
    };
    control.set_partition(full.clone());
    assert_eq!(
        probe(&[&handle]).await,
        (200, 200, 200, vec!["paused_by_not_due".to_owned()])
    );
    let answer = get(&shared(vec![handle.clone()], None), "/health/ready").await;
    let text = answer.json()["reasons"][0]["text"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        text.starts_with("10450 of 10499 pending records are not due"),
        "{text}"
    );
    control.set_partition(PartitionStatus {
        paused_by: Some(PausedBy::PendingRecords),
        ..full
    });
    assert_eq!(
        probe(&[&handle]).await,
        (200, 200, 200, vec![]),
        "an ordinary backlog"
    );
}

#[tokio::test]
async fn reasons_are_bounded_and_those_that_fail_come_first() {
    let ((many, first), (_, second)) = (running("a"), subscription("b"));
    for number in 0..200 {
        many.set_partition(PartitionStatus {
            snapshot: snapshot(|it| it.parked = 1),
            ..PartitionStatus::new("tasks", number)
        });
    }
    let answer = get(&shared(vec![first, second], None), "/health/ready").await;
    let (codes, health) = (codes(&answer), answer.json());
    assert_eq!(
        (codes.len(), codes[0].as_str(), &health["omitted"]),
        (100, "starting", &101.into())
    );
}
