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

    // Another one than was paused.
    let refused = scene.keylane(&["resume", GROUP, "--topic", TOPIC]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.messages.contains("pause/parking-events/1"),
        "{refused:?}"
    );
    let resumed = scene.keylane(&[&["resume", GROUP][..], &place].concat());
    assert_eq!(resumed.code, 0, "{resumed:?}");
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
    let shown = scene
        .keylane(&["control", "show", GROUP, "-o", "json"])
        .json();
    assert_eq!(shown[0]["about"], "parking-events/1@5");
    let cancel = ["skip", GROUP, "parking-events/1@5", "--cancel"];
    assert_eq!(scene.keylane(&cancel).code, 0);
    let again = scene.keylane(&cancel);
    assert_eq!(again.code, 1, "nothing is left: {again:?}");
}
