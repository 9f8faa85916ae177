//! Questions and answers, and the ids of tasks, on the wire.

use std::time::Duration;

use futures::future::join_all;
use keylane::request_reply::{Answered, Requester, Responder};
use keylane::{Decode, Json, NewTask, Task, TaskError, TaskProducer};
use keylane_integration_tests::{
    kafka::{Extras, Nodes},
    kafka_or_skip,
    scene::{DEADLINE, Scene},
};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

/// What the reader of answers is called in its requests to the brokers.
const READERS: &str = "keylane-dead-letters";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_requester_gets_its_answers_and_leaves_no_group_behind() {
    let kafka = kafka_or_skip!(Nodes::One, Extras::quick_sessions());
    let scene = Scene::new(kafka, 2).await;
    let answers = scene.another("answers", 2).await;
    let servers = kafka.bootstrap_servers().to_owned();
    let producer = TaskProducer::builder(&*answers)
        .bootstrap_servers(&*servers)
        .application_id("doubles")
        .start()
        .await
        .unwrap();
    let responder = Responder::new(producer);
    let process = move |question: Task<u64>| {
        let responder = responder.clone();
        async move {
            // By the message id, so that it is known to have come with the question.
            let id = question.message_id().ok_or("a question without an id")?;
            let answer = (question.payload() * 2, id.len());
            let answered = responder.answer(&question, NewTask::json(&answer)?).await?;
            assert_eq!(answered, Answered::Sent);
            Ok::<(), TaskError>(())
        }
    };
    let member = scene.subscribe().start(Json, process).await.unwrap();
    let requester = Requester::builder(&*scene.topic, &*answers)
        .bootstrap_servers(&*servers)
        .application_id("gate")
        .startup_timeout(DEADLINE)
        .start()
        .await
        .unwrap();
    join_all((0..50_u64).map(|number| {
        let question = NewTask::json(&number).unwrap().key(number.to_string());
        let asked = requester.ask(question).within(DEADLINE);
        async move {
            let answer: (u64, usize) = Json.decode(&asked.await.unwrap()).unwrap();
            assert_eq!(answer, (2 * number, 36));
        }
    }))
    .await;
    assert_eq!(requester.late_answers(), 0);

    let groups = tokio::task::spawn_blocking(move || {
        let client: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", servers)
            .create()
            .unwrap();
        let groups = client
            .fetch_group_list(None, Duration::from_secs(30))
            .unwrap();
        let names = groups.groups().iter().map(|group| group.name().to_owned());
        names.collect::<Vec<_>>()
    });
    let groups = groups.await.unwrap();
    assert!(groups.contains(&scene.group), "they are listed");
    assert!(!groups.iter().any(|group| group == READERS), "{groups:?}");
    member.shutdown().await.unwrap();
}
