//! `keylane map`.

use serde_json::json;

use crate::{GROUP, Scene, TOPIC, map};

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_decoded_as_it_lies_on_the_broker() {
    let scene = Scene::new(2);
    scene.write(1, 12).await;
    scene.commit(1, 3, &map(3, &[(5, 6), (9, 9)]));
    let partition = format!("{TOPIC}/1");
    let answer = scene
        .keylane(&["map", GROUP, &partition, "-o", "json"])
        .json();
    assert_eq!(answer["position"], 3);
    assert_eq!(answer["settled_ahead"], 3);
    let ranges = json!([{"first": 5, "last": 6}, {"first": 9, "last": 9}]);
    assert_eq!(answer["ranges"], ranges);
    // The mock has no topic ids to compare with.
    assert_eq!(answer["log"]["is_present"], json!(null));

    let words = scene.keylane(&["map", GROUP, &partition]);
    assert!(words.output.contains("5-6, 9"), "{words:?}");
}

#[test]
fn what_is_not_there_is_refused_by_name() {
    let scene = Scene::new(1);
    let nothing = scene.keylane(&["map", GROUP, &format!("{TOPIC}/0")]);
    assert_eq!(nothing.code, 1);
    assert!(
        nothing.messages.contains("has committed nothing"),
        "{nothing:?}"
    );
    let partition = scene.keylane(&["map", GROUP, &format!("{TOPIC}/7")]);
    assert_eq!(partition.code, 1);
    assert!(
        partition.messages.contains("has 1 partitions"),
        "{partition:?}"
    );
    let topic = scene.keylane(&["map", GROUP, "misspelt/0"]);
    assert_eq!(topic.code, 1);
    assert!(topic.messages.contains("misspelt"), "{topic:?}");
}
