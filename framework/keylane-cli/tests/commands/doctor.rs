//! `keylane doctor`.

use serde_json::Value;

use crate::{GROUP, Scene, TOPIC};

#[test]
fn what_the_broker_does_not_say_is_unknown_and_no_problem() {
    let scene = Scene::new(2);
    scene.commit(0, 0, "");
    let answer = scene.keylane(&["doctor", GROUP, "-o", "json"]);
    let findings: Vec<Value> = serde_json::from_str(&answer.output).unwrap();
    let verdict = |check: &str, subject: &str| {
        let mut found = findings.iter().filter(|it| it["check"] == check);
        let finding = found.find(|it| it["subject"] == subject).unwrap();
        finding["verdict"].as_str().unwrap().to_owned()
    };
    assert_eq!(verdict("partitions", TOPIC), "ok");
    // The mock keeps metadata, and answers no query of an administrator.
    assert_eq!(
        verdict("commit metadata", &format!("{GROUP}.keylane-doctor")),
        "ok"
    );
    assert_eq!(verdict("permissions", TOPIC), "unknown");
    assert_eq!(verdict("limits", TOPIC), "unknown");
    assert_eq!(verdict("clocks", "members"), "unknown");
    assert_eq!(answer.code, 0, "{answer:?}");
}
