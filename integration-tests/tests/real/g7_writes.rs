//! G7, epochs: what a member that was cut off has written to the dead-letter topic can be
//! distinguished from what its successor writes.

use std::{collections::HashMap, time::Duration};

use keylane::dead_letter::FailedRecordId;
use keylane::{DeadLetter, Headers, Json, Task, TaskError};
use keylane_integration_tests::{
    kafka::{Kafka, Nodes, StoredRecord},
    kafka_or_skip,
    load::numbered,
    scene::{DEADLINE, Scene},
    wait::wait_for,
};

const RECORDS: usize = 5;

fn headers(record: &StoredRecord) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in &record.headers {
        headers.push(name, value.clone().unwrap_or_default());
    }
    headers
}

/// The generation in `keylane-epoch`.
fn generation(record: &StoredRecord) -> i32 {
    let (generation, member) = record
        .header("keylane-epoch")
        .unwrap()
        .split_once('/')
        .unwrap();
    assert!(!member.is_empty());
    generation.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_of_a_dead_letter_share_their_id_and_name_their_epochs() {
    let kafka = kafka_or_skip!(Nodes::One);
    for _ in 0..5 {
        if are_copies(kafka).await {
            return;
        }
    }
    panic!("each time the dead letters were committed before the member was thrown out");
}

/// Thrown out after its dead letters were acknowledged and before they were committed, the member
/// comes back and writes them again. `false` where they were committed all the same: a member that
/// got no CPU for a second has to prove that it still is one, by a commit.
async fn are_copies(kafka: &Kafka) -> bool {
    let scene = Scene::new(kafka, 1).await;
    let dead = scene.another("dead", 1).await;
    scene.write(numbered(0..RECORDS, RECORDS)).await;
    let member = scene
        .subscribe()
        // Nothing is committed before it is thrown out.
        .commit_interval(Duration::from_secs(60))
        .dead_letter(DeadLetter::topic(&dead))
        .start(Json, |_: Task<u32>| async {
            Err::<(), _>(TaskError::fatal("no"))
        })
        .await
        .unwrap();
    let written = async |count| {
        wait_for("the dead letters are written", DEADLINE, async || {
            Some(kafka.read_all(&dead).await.ok()?).filter(|records| records.len() >= count)
        })
        .await
    };
    let first = written(RECORDS).await;
    let id = scene.only_member().await;
    assert!(
        first
            .iter()
            .all(|record| record.header("keylane-epoch").unwrap().ends_with(&id)),
        "{first:?}"
    );
    let committed = scene.committed().await.remove(0);
    if committed.offset.is_some_and(|offset| offset > 0) {
        member.shutdown().await.unwrap();
        return false;
    }

    kafka.evict(&scene.group, &id).await.unwrap();
    let all = written(2 * RECORDS).await;
    let mut copies: HashMap<FailedRecordId, Vec<i32>> = HashMap::new();
    for record in &all {
        let id = FailedRecordId::read(&headers(record)).unwrap();
        assert_eq!(
            (&*id.group, &*id.origin.topic, id.round),
            (&*scene.group, &*scene.topic, None)
        );
        copies.entry(id).or_default().push(generation(record));
    }
    assert_eq!(copies.len(), RECORDS);
    for (id, generations) in copies {
        assert!(
            generations.len() == 2 && generations[0] < generations[1],
            "{id}: {generations:?}"
        );
    }
    member.shutdown().await.unwrap();
    let committed = scene.committed().await.remove(0);
    assert_eq!(committed.offset, Some(RECORDS as i64));
    true
}
