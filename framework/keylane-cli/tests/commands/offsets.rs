//! `keylane offsets`.

use std::time::{Duration, Instant};

use keylane::{Json, Subscription, Task, TaskError};
use keylane_core::{Offset, Position, commit_map};
use keylane_embedded_broker::EmbeddedBroker;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use serde_json::{Value, json};

use crate::{Answer, GROUP, PATIENCE, Scene, TOPIC, keylane_at, map};

/// The first row of a JSON answer.
fn row(answer: &Value) -> &Value {
    &answer[0]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_back_clears_the_map_and_says_what_is_done_twice() {
    let scene = Scene::new(1);
    scene.write(0, 12).await;
    scene.commit(0, 6, &map(6, &[(8, 9)]));
    let back = [
        "offsets",
        "reset",
        GROUP,
        "-t",
        TOPIC,
        "--to-offset",
        "2",
        "-o",
        "json",
    ];
    let planned = scene.keylane(&[&back[..], &["--dry-run"]].concat());
    let planned = planned.json();
    assert_eq!(
        row(&planned),
        &json!({
            "topic": TOPIC, "partition": 0, "from": 6, "to": 2, "repeated": 6, "skipped": 0,
            "kept_settled": 0, "state": "planned",
        })
    );
    assert_eq!(
        scene.committed(0),
        (6, map(6, &[(8, 9)])),
        "it was only planned"
    );

    let without_word = scene.keylane(&back);
    assert_eq!(without_word.code, 1);
    assert!(without_word.messages.contains("--yes"), "{without_word:?}");
    assert_eq!(scene.committed(0).0, 6);

    let done = scene.keylane(&[&back[..], &["--yes"]].concat()).json();
    assert_eq!(row(&done)["state"], "moved");
    assert_eq!(scene.committed(0), (2, map(2, &[])), "only the log is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_forward_passes_over_records_and_keeps_what_is_settled_only_if_told() {
    let scene = Scene::new(2);
    scene.write(0, 12).await;
    scene.write(1, 3).await;
    scene.commit(0, 2, &map(2, &[(4, 4), (6, 7)]));
    scene.commit(1, 1, "");
    let only_one = ["--partition", "0", "--shift", "3", "-o", "json"];
    let forward = [&["offsets", "reset", GROUP, "-t", TOPIC][..], &only_one].concat();
    let refused = scene.keylane(&[&forward[..], &["--yes"]].concat());
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.messages.contains("--skip"), "{refused:?}");
    assert_eq!(scene.committed(0), (2, map(2, &[(4, 4), (6, 7)])));
    let planned = scene.keylane(&[&forward[..], &["--dry-run"]].concat());
    assert!(planned.messages.contains("--skip"), "{planned:?}");
    assert_eq!(row(&planned.json())["repeated"], 2);

    let done = [&forward[..], &["--yes", "--skip", "--keep-settled"]].concat();
    let done = scene.keylane(&done).json();
    assert_eq!(row(&done)["skipped"], 2, "{done}");
    assert_eq!(row(&done)["kept_settled"], 2);
    let (position, metadata) = scene.committed(0);
    assert_eq!(position, 5);
    let content = commit_map::decode(Position::new(5), &metadata).unwrap();
    let is_settled = |offset| content.settled.contains(Offset::new(offset));
    assert_eq!(
        (4..9).map(is_settled).collect::<Vec<_>>(),
        [false, false, true, true, false]
    );
    assert_eq!(scene.committed(1).0, 1, "the other partition was not named");

    let shown = scene
        .keylane(&["offsets", "show", GROUP, "-o", "json"])
        .json();
    assert_eq!(
        row(&shown),
        &json!({
            "topic": TOPIC, "partition": 0, "committed": 5, "of_this_log": null, "commit_leader_epoch": 0, "first": 0, "end": 12,
            "settled_ahead": 2, "content": "keylane",
        })
    );
}

/// A key is stuck at the position, and the rest is settled ahead: to go there means to replay.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_from_within_the_map_clears_it_also_where_the_position_stays() {
    let scene = Scene::new(1);
    scene.write(0, 12).await;
    let reset = [
        "offsets", "reset", GROUP, "-t", TOPIC, "--yes", "-o", "json",
    ];
    for (target, repeated) in [("3", 9), ("2", 9)] {
        scene.commit(0, 2, &map(2, &[(3, 11)]));
        let done = [&reset[..], &["--skip", "--to-offset", target]].concat();
        let done = scene.keylane(&done).json();
        assert_eq!(row(&done)["repeated"], repeated, "{done}");
        assert_eq!(row(&done)["state"], "moved");
        let position = target.parse().unwrap();
        assert_eq!(scene.committed(0), (position, map(position, &[])));
    }
    let again = [&reset[..], &["--to-offset", "2"]].concat();
    let again = scene.keylane(&again).json();
    assert_eq!(row(&again)["state"], "unchanged", "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_comes_during_the_question_stays() {
    let scene = Scene::new(1);
    scene.write(0, 3).await;
    scene.commit(0, 3, "");
    let reset = ["offsets", "reset", GROUP, "-t", TOPIC, "--to-earliest"];
    let another = |_: &str| {
        scene.commit(0, 2, "");
        Ok(true)
    };
    let refused = keylane_at(&scene, &reset, Box::new(another));
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.messages.contains("since the question"),
        "{refused:?}"
    );
    assert_eq!(scene.committed(0).0, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_became_of_a_commit_without_an_answer_is_unknown_and_not_refused() {
    use RDKafkaApiKey::{OffsetCommit, OffsetFetch};
    use RDKafkaRespErr::{
        RD_KAFKA_RESP_ERR__TRANSPORT as GONE,
        RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED as FORBIDDEN,
        RD_KAFKA_RESP_ERR_NO_ERROR as ANSWERED,
    };
    let scene = Scene::new(1);
    scene.write(0, 3).await;
    scene.commit(0, 3, "");
    let reset = [
        "offsets", "reset", GROUP, "-t", TOPIC, "--yes", "-o", "json",
    ];
    let is_unknown = |answer: &Answer| {
        assert_eq!(answer.code, 3, "{answer:?}");
        assert!(answer.messages.contains("state unknown"), "{answer:?}");
        let rows: Value = serde_json::from_str(&answer.output).unwrap();
        assert_eq!(row(&rows)["state"], Value::Null, "{answer:?}");
    };
    let cluster = scene.broker.cluster();
    // The commit arrives, and cannot be read back.
    cluster.request_errors(OffsetFetch, &[ANSWERED, FORBIDDEN]);
    is_unknown(&scene.keylane(&[&reset[..], &["--to-offset", "2"]].concat()));
    cluster.clear_request_errors(OffsetFetch);
    assert_eq!(scene.committed(0).0, 2);
    // The commit does not arrive, as far as the client can see.
    cluster.request_errors(OffsetCommit, &[GONE; 1_000]);
    is_unknown(&scene.keylane(&[&reset[..], &["--to-offset", "1", "--timeout", "5s"]].concat()));
    cluster.clear_request_errors(OffsetCommit);
    // A broker's refusal is one.
    cluster.request_errors(OffsetCommit, &[FORBIDDEN; 1_000]);
    let refused = scene.keylane(&[&reset[..], &["--to-offset", "0"]].concat());
    assert_eq!(refused.code, 1, "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_are_not_named_may_have_no_leader() {
    let scene = Scene::new(2);
    scene.write(0, 3).await;
    scene.commit(0, 3, "");
    scene.commit(1, 0, "");
    let cluster = scene.broker.cluster();
    cluster.partition_leader(TOPIC, 1, None).unwrap();
    let reset = [
        "offsets",
        "reset",
        GROUP,
        "-t",
        TOPIC,
        "--yes",
        "--to-earliest",
        "--timeout",
        "10s",
    ];
    let one = scene.keylane(&[&reset[..], &["-p", "0"]].concat());
    assert_eq!(one.code, 0, "{one:?}");
    assert_eq!(scene.committed(0).0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn at_a_terminal_it_is_asked_first() {
    let scene = Scene::new(1);
    scene.write(0, 3).await;
    scene.commit(0, 3, "");
    let reset = ["offsets", "reset", GROUP, "-t", TOPIC, "--to-earliest"];
    let mut asked = Vec::new();
    let mut ask = |yes: bool| {
        let answer = |question: &str| {
            asked.push(question.to_owned());
            Ok(yes)
        };
        keylane_at(&scene, &reset, Box::new(answer))
    };
    let refused = ask(false);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert_eq!(scene.committed(0).0, 3);
    let done = ask(true);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(scene.committed(0).0, 0);
    assert!(
        asked[0].contains("3 offsets are processed again, 0 are skipped"),
        "{asked:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn live_members_are_not_reset_under_their_feet() {
    let scene = Scene::new(1);
    scene.write(0, 3).await;
    let work = |_: Task<Value>| async { Ok::<(), TaskError>(()) };
    let subscription = Subscription::builder(GROUP, TOPIC)
        .bootstrap_servers(scene.broker.bootstrap_servers())
        .kafka_settings(EmbeddedBroker::client_settings())
        .start(Json, work)
        .await
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    while scene.position(0) != Some(3) {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let reset = [
        "offsets",
        "reset",
        GROUP,
        "-t",
        TOPIC,
        "--to-earliest",
        "--yes",
    ];
    let refused = tokio::task::block_in_place(|| scene.keylane(&reset));
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.messages.contains("live members"), "{refused:?}");
    assert_eq!(scene.position(0), Some(3));
    // The mock refuses for ever from then on; a real Kafka takes it once the group is empty.
    subscription.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_outside_the_log_and_one_too_many_are_refused() {
    let scene = Scene::new(1);
    scene.write(0, 3).await;
    scene.commit(0, 1, "");
    let reset = ["offsets", "reset", GROUP, "-t", TOPIC, "--yes"];
    let outside = scene.keylane(&[&reset[..], &["--to-offset", "4"]].concat());
    assert_eq!(outside.code, 1, "{outside:?}");
    assert!(outside.messages.contains("0 to 3"), "{outside:?}");
    let unknown = scene.keylane(&[&reset[..], &["--to-latest", "-p", "7"]].concat());
    assert_eq!(unknown.code, 1, "{unknown:?}");
    for wrong in [
        &[][..],
        &["--to-latest", "--to-earliest"],
        &["--to-time", "soon"],
    ] {
        let answer = scene.keylane(&[&reset[..], wrong].concat());
        assert_eq!(answer.code, 2, "{answer:?}");
    }
    assert_eq!(scene.committed(0).0, 1);
}
