//! Which keys stand out, seen through the handle of a subscription.

use std::time::Duration;

use super::common::{self, eventually};
use keylane::{
    HotKey, HotKeySettings, Json, KeyHash, NewTask, Position, Subscription, Task, TaskError,
};
use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};
use tokio::sync::watch;

const OFTEN: &str = "comes-often";
const STUCK: &str = "takes-long";

fn is_first<A>(keys: &[HotKey<A>], name: &str) -> bool {
    keys.first()
        .is_some_and(|key| key.key_hash == KeyHash::of(name.as_bytes()))
}

/// Many keys of two records each, one that comes often, and one whose first record takes as long as
/// it is not released while the others of its key wait.
fn tasks() -> Vec<NewTask> {
    let key_of = |number: u32| match number {
        0..=39 => STUCK.to_owned(),
        40..=139 => OFTEN.to_owned(),
        other => format!("one-of-many-{}", other % 100),
    };
    (0..340)
        .map(|number| NewTask::json(&number).unwrap().key(key_of(number)))
        .collect()
}

async fn the_keys_that_stand_out(plain_keys: bool) {
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    broker.create_topic("tasks", 1).unwrap();
    let producer = common::producer(broker.bootstrap_servers(), "tasks").await;
    for result in producer.enqueue_all(tasks()).await {
        result.unwrap();
    }
    let (release, released) = watch::channel(false);
    let subscription = Subscription::builder("group", "tasks")
        .bootstrap_servers(broker.bootstrap_servers())
        .kafka_settings(EmbeddedBroker::client_settings())
        // A member that gets no CPU for a while is not to be thrown out: nothing may come twice.
        .kafka("session.timeout.ms", "6000")
        .hot_keys(HotKeySettings::default().plain_keys(plain_keys))
        .start(Json, move |task: Task<u32>| {
            let mut released = released.clone();
            async move {
                if *task.payload() == 0 {
                    let _ = released.wait_for(|released| *released).await;
                }
                Ok::<(), TaskError>(())
            }
        })
        .await
        .unwrap();
    let handle = subscription.handle();
    eventually("the key with the most records is first", || {
        is_first(&handle.hot_keys().by_records, OFTEN)
    })
    .await;
    // While its attempt still runs, and the others have never started. What a busy machine adds to
    // the others fades.
    eventually("the key that takes longest has most of the time", || {
        let keys = handle.hot_keys();
        is_first(&keys.by_time, STUCK) && keys.by_time[0].share > 0.5
    })
    .await;
    eventually("the key that waits longest is first", || {
        is_first(&handle.hot_keys().by_waiting, STUCK)
    })
    .await;

    let keys = handle.hot_keys();
    let often = &keys.by_records[0];
    assert_eq!((&*often.topic, often.partition), ("tasks", 0));
    assert_eq!(often.key.as_deref(), plain_keys.then_some(OFTEN.as_bytes()));
    assert!(
        often.amount <= 100 && often.at_most >= often.amount,
        "{often:?}"
    );
    assert!(keys.by_records.is_sorted_by(|a, b| a.amount >= b.amount));
    assert!(
        !format!("{keys:?}").contains(OFTEN),
        "not in what is logged"
    );

    release.send(true).unwrap();
    eventually("all is settled", || {
        subscription
            .status()
            .partitions
            .iter()
            .all(|p| p.snapshot.watermark == Some(Position::new(340)))
    })
    .await;
    eventually("what has ended counts on", || {
        let keys = handle.hot_keys();
        is_first(&keys.by_time, STUCK) && is_first(&keys.by_waiting, STUCK)
    })
    .await;
    subscription.shutdown().await.unwrap();
    producer.close(Duration::from_secs(10)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_keys_that_stand_out_are_named_by_their_hashes() {
    the_keys_that_stand_out(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_shown_where_the_settings_allow_it() {
    the_keys_that_stand_out(true).await;
}
