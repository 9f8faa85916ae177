//! `keylane pause`, `resume`, `skip` and `control`.

use super::{GROUP, Scene, TOPIC};

const CONTROL: &str = "notifier-keylane-control";

fn scene() -> Scene {
    let scene = Scene::new(2);
    scene.broker.create_topic(CONTROL, 1).unwrap();
    scene
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_paused_is_shown_and_can_be_resumed_by_the_same_name() {
    let scene = scene();
    let place = ["--topic", TOPIC, "--partition", "1"];
    let why = ["--why", "it is ill", "--by", "ann", "--until", "2h"];
    let paused = scene.keylane(&[&["pause", GROUP][..], &place, &why].concat());
    assert_eq!(paused.code, 0, "{paused:?}");
    assert!(paused.messages.contains("set control_topic"), "{paused:?}");

    let shown = scene
        .keylane(&["control", "show", GROUP, "-o", "json"])
        .json();
    let row = &shown[0];
    assert_eq!(row["kind"], "pause");
    assert_eq!(row["about"], "partition parking-events/1");
    assert_eq!(row["state"], "in force");
    assert_eq!(
        (&row["by"], &row["why"]),
        (&"ann".into(), &"it is ill".into())
    );
    assert!(
        row["until"].is_string() && row["since"].is_string(),
        "{row}"
    );

    // Of another operator: it would be gone without a trace.
    let others = ["--why", "a test", "--by", "bob"];
    let pause =
        |more: &[&str]| scene.keylane(&[&["pause", GROUP][..], &place, &others, more].concat());
    let refused = pause(&[]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.messages.contains("by ann"), "{refused:?}");
    let tried = pause(&["--replace", "--dry-run"]);
    assert_eq!(tried.code, 0, "{tried:?}");
    assert!(tried.messages.contains("by ann"), "{tried:?}");
    assert!(tried.output.contains("would be written"), "{tried:?}");
    let show = || scene.keylane(&["control", "show", GROUP, "-o", "json"]);
    assert_eq!(show().json()[0]["by"], "ann", "nothing was written");
    let replaced = pause(&["--replace"]);
    assert_eq!(replaced.code, 0, "{replaced:?}");
    assert!(replaced.messages.contains("it is ill"), "{replaced:?}");
    assert_eq!(show().json()[0]["by"], "bob");

    // Another one than was paused.
    let refused = scene.keylane(&["resume", GROUP, "--topic", TOPIC]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.messages.contains("pause/parking-events/1"),
        "{refused:?}"
    );
    let resumed = scene.keylane(&[&["resume", GROUP][..], &place].concat());
    assert_eq!(resumed.code, 0, "{resumed:?}");
    assert!(resumed.messages.contains("by bob"), "{resumed:?}");
    let shown = scene.keylane(&["control", "show", GROUP, "-o", "json"]);
    assert_eq!(shown.json(), serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_an_unknown_orderer_and_an_end_in_the_past_are_refused() {
    let scene = Scene::new(1);
    let missing = scene.keylane(&["control", "show", GROUP]);
    assert_eq!(missing.code, 1, "{missing:?}");
    assert!(
        missing.messages.contains("keylane control create"),
        "{missing:?}"
    );
    let pause = ["pause", GROUP, "--why", "x"];
    let nameless = scene.keylane(&pause);
    assert_eq!(nameless.code, 2, "{nameless:?}");
    assert!(nameless.messages.contains("--by"), "{nameless:?}");
    let past = ["--by", "ann", "--until", "1999-01-01T00:00:00Z"];
    let past = scene.keylane(&[&pause[..], &past].concat());
    assert_eq!(past.code, 2, "{past:?}");
    let alone = scene.keylane(&["pause", GROUP, "--why", "x", "--partition", "1"]);
    assert_eq!(alone.code, 2, "{alone:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_of_what_does_not_exist_is_refused_and_one_that_the_group_does_not_read_is_noted() {
    let scene = scene();
    let pause = |more: &[&str]| {
        let why = ["--why", "x", "--by", "ann"];
        scene.keylane(&[&["pause", GROUP][..], &why, more].concat())
    };
    let typo = pause(&["--topic", "parkng-events"]);
    assert_eq!(typo.code, 1, "{typo:?}");
    let partition = pause(&["--topic", TOPIC, "--partition", "99"]);
    assert_eq!(partition.code, 1, "{partition:?}");
    assert!(
        partition.messages.contains("no partition 99"),
        "{partition:?}"
    );
    let unread = pause(&["--topic", TOPIC]);
    assert_eq!(unread.code, 0, "{unread:?}");
    assert!(unread.messages.contains("committed nothing"), "{unread:?}");
}

/// Acknowledgements, as members write them.
#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_says_where_members_have_not_applied_an_order_or_refuse_it() {
    let scene = scene();
    let ack = async |name: &str, revision: i64, refused: u64| {
        let control = keylane::TaskProducer::builder(CONTROL)
            .bootstrap_servers(scene.broker.bootstrap_servers())
            .application_id("test")
            .start()
            .await
            .unwrap();
        let ack = format!(
            r#"{{"v": 1, "revision": {revision}, "at": "2999-11-30T14:00:00Z", "refused": {refused}}}"#
        );
        let ack = keylane::NewTask::new(ack).key(format!("ack/{name}"));
        assert!(control.enqueue(ack).await.is_ok());
        control.close(super::PATIENCE).await.unwrap();
    };
    let pause = |more: &[&str]| {
        let why = ["--why", "x", "--by", "ann"];
        scene.keylane(&[&["pause", GROUP][..], &why, more].concat())
    };
    ack("one", 1_000, 0).await;
    let applied = pause(&[]);
    assert_eq!(applied.code, 0, "{applied:?}");
    ack("two", 0, 0).await;
    // The brokers' answers, which must come, have no more time than this either.
    let in_vain = ["--timeout", "10s"];
    let behind = pause(&in_vain);
    assert_eq!(behind.code, 3, "{behind:?}");
    assert!(behind.messages.contains("1 of 2 applied"), "{behind:?}");
    assert_eq!(pause(&["--no-wait"]).code, 0);
    ack("two", 1_000, 1).await;
    let refuses = pause(&in_vain);
    assert_eq!(refuses.code, 3, "{refuses:?}");
    assert!(
        refuses.messages.contains("1 of 2 applied, 1 refuses"),
        "{refuses:?}"
    );
    let shown = scene.keylane(&["control", "show", GROUP]);
    assert!(shown.output.contains("refuses records"), "{shown:?}");

    // Neither of them is a member.
    let prune = |more: &[&str]| scene.keylane(&[&["control", "prune", GROUP][..], more].concat());
    let tried = prune(&["--dry-run"]);
    assert_eq!(tried.code, 0, "{tried:?}");
    for part in ["ack/one", "ack/two", "would be taken out"] {
        assert!(tried.output.contains(part), "{tried:?}");
    }
    assert_eq!(prune(&[]).code, 0);
    let shown = scene.keylane(&["control", "show", GROUP]);
    assert!(!shown.output.contains("member"), "{shown:?}");
    assert!(shown.output.contains("pause"), "{shown:?}");
    let nothing = prune(&[]);
    assert!(nothing.messages.contains("nothing"), "{nothing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_skip_is_refused_where_it_would_do_nothing_and_can_be_cancelled() {
    let scene = scene();
    scene.write(1, 10).await;
    scene.commit(1, 4, &super::map(4, &[(6, 7)]));
    let skip = |record: &str| {
        let why = ["--why", "damaged", "--by", "ann"];
        scene.keylane(&[&["skip", GROUP, record], &why[..]].concat())
    };
    for (record, said) in [
        ("parking-events/1@3", "settled already"),
        ("parking-events/1@6", "settled already"),
        ("parking-events/1@10", "no record at offset 10"),
    ] {
        let refused = skip(record);
        assert_eq!(refused.code, 1, "{refused:?}");
        assert!(refused.messages.contains(said), "{refused:?}");
    }
    assert_eq!(skip("parking-events@5").code, 2);
    let written = skip("parking-events/1@5");
    assert_eq!(written.code, 0, "{written:?}");
    let servers = scene.broker.bootstrap_servers().into();
    let kafka = keylane::config::KafkaSettings::new();
    let commander =
        keylane::control::Commander::connect(&servers, &kafka, GROUP, None, super::PATIENCE);
    let found = commander.unwrap().read().unwrap();
    let order = found.directives.orders().next().unwrap().1.clone();
    assert!(
        order.leader_epoch.is_some(),
        "it names the record: {order:?}"
    );
    let shown = scene
        .keylane(&["control", "show", GROUP, "-o", "json"])
        .json();
    assert_eq!(shown[0]["about"], "parking-events/1@5");
    let cancel = ["skip", GROUP, "parking-events/1@5", "--cancel"];
    assert_eq!(scene.keylane(&cancel).code, 0);
    let again = scene.keylane(&cancel);
    assert_eq!(again.code, 1, "nothing is left: {again:?}");
}
