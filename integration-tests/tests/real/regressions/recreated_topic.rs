//! Found by the chaos program (seed 2, `consumer`): a dead letter that was acknowledged and lay
//! nowhere.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use keylane::{NewTask, TaskProducer};
use keylane_integration_tests::{
    kafka::{Kafka, Nodes},
    own_kafka_or_skip,
};
use tokio::task::JoinSet;

const DEADLINE: Duration = Duration::from_secs(60);
/// One record in seventy or so is affected where nothing is done about it.
const ROUNDS: usize = 4;
const RECORDS: usize = 80;

/// Enqueues until the broker's word comes.
async fn enqueue(producer: TaskProducer, id: usize, value: String) -> String {
    let began = Instant::now();
    loop {
        match producer
            .enqueue(NewTask::new(value.clone()).partition(i32::try_from(id).unwrap() % 8))
            .await
        {
            Ok(_) => return value,
            Err(error) => assert!(began.elapsed() < DEADLINE, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn create(kafka: &Kafka, topic: &str) {
    kafka
        .create_topic(topic, 8, 3, &[("min.insync.replicas", "2")])
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_is_there_also_where_the_topic_is_made_anew_meanwhile() {
    let kafka = own_kafka_or_skip!(Nodes::Three);
    let topic = kafka.unique("made-anew");
    create(&kafka, &topic).await;
    let servers = kafka.bootstrap_servers();
    let producer = TaskProducer::builder(&topic)
        .bootstrap_servers(servers)
        .application_id("test")
        .start()
        .await
        .unwrap();
    for round in 0..ROUNDS {
        for id in 0..20 {
            enqueue(producer.clone(), id, format!("{round}-before-{id}")).await;
        }
        kafka.delete_topic(&topic).await.unwrap();
        let mut writes = JoinSet::new();
        for id in 0..RECORDS {
            let (producer, value) = (producer.clone(), format!("{round}-{id}"));
            writes.spawn(async move {
                // Spread over the time in which the topic is away and comes back.
                tokio::time::sleep(Duration::from_millis(60) * u32::try_from(id).unwrap()).await;
                enqueue(producer, id, value).await
            });
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        create(&kafka, &topic).await;
        let acknowledged: BTreeSet<String> = writes.join_all().await.into_iter().collect();
        let there: BTreeSet<String> = kafka
            .read_all(&topic)
            .await
            .unwrap()
            .into_iter()
            .map(|record| String::from_utf8(record.value.unwrap()).unwrap())
            .collect();
        let missing: Vec<_> = acknowledged.difference(&there).collect();
        assert!(
            missing.is_empty(),
            "broken promise, round {round}: acknowledged and not there: {missing:?}"
        );
    }
}
