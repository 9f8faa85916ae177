//! `keylane doctor`.

use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
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

#[test]
fn a_commit_that_cannot_be_read_back_is_a_finding_beside_the_others() {
    let scene = Scene::new(2);
    let forbidden = RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED;
    let cluster = scene.broker.cluster();
    cluster.request_errors(RDKafkaApiKey::OffsetFetch, &[forbidden; 100]);
    let answer = scene.keylane(&["doctor", GROUP, "--topic", TOPIC, "-o", "json"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    let findings: Vec<Value> = serde_json::from_str(&answer.output).unwrap();
    let is_meant = |it: &&Value| it["check"] == "commit metadata";
    let finding = findings.iter().find(is_meant).unwrap();
    assert_eq!(finding["verdict"], "unknown", "{finding}");
    let text = finding["finding"].as_str().unwrap();
    assert!(text.contains("read back"), "{text}");
    // It was tried; the mock cannot.
    assert!(text.contains("delete group"), "{text}");
}
