//! `keylane pause-key`, `retry-now`, `dead-letter-now` and `release`.

use std::io::Write;
use std::time::Duration;

use keylane::config::Backoff;
use keylane::{DeadLetter, Json, Retry, Subscription, Task, TaskError};
use keylane_admin::AdminServer;
use keylane_embedded_broker::EmbeddedBroker;
use serde_json::Value;

use crate::{Answer, GROUP, PATIENCE, Scene, TOPIC};

const TOKEN: &str = "b3f1-4c2a-9d7e";

fn row(answer: &Answer) -> Value {
    answer.json()[0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_record_is_given_up_and_a_key_paused_by_the_members_admin_endpoint() {
    let scene = Scene::new(1);
    scene.broker.create_topic("dead", 1).unwrap();
    scene.write(0, 2).await;
    let fails = |_: Task<Value>| async { Err::<(), _>(TaskError::retryable("status 503")) };
    let hour = Backoff::fixed(Duration::from_secs(3_600));
    let subscription = Subscription::builder(GROUP, TOPIC)
        .bootstrap_servers(scene.broker.bootstrap_servers())
        .kafka_settings(EmbeddedBroker::client_settings())
        .retry(Retry::in_place(5).backoff(hour))
        .dead_letter(DeadLetter::topic("dead"))
        .start(Json, fails)
        .await
        .unwrap();
    let handle = subscription.handle();
    let admin = AdminServer::builder().token(TOKEN).start().unwrap();
    admin.add(handle.clone()).unwrap();
    let address = format!("http://{}", admin.local_addr());
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "{TOKEN}").unwrap();
    let token_file = file.path().to_str().unwrap();
    let act = |arguments: &[&str]| {
        let rest = [
            "--admin",
            &address,
            "--token-file",
            token_file,
            "-o",
            "json",
        ];
        tokio::task::block_in_place(|| scene.keylane(&[arguments, &rest].concat()))
    };
    let oldest = |offset: i64| {
        let oldest = handle.status().partitions.first()?.oldest.clone()?;
        (oldest.offset == offset && oldest.attempts == 1).then_some(())
    };
    let eventually = async |is_so: &dyn Fn() -> Option<()>| {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while is_so().is_none() {
            assert!(
                tokio::time::Instant::now() < deadline,
                "{:?}",
                handle.status()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    eventually(&|| oldest(0)).await;

    let why = ["--by", "ann", "--why", "INC-7"];
    let record = format!("{TOPIC}/0@0");
    let dry = [&["dead-letter-now", GROUP, &record, "--dry-run"][..], &why].concat();
    let tried = act(&dry);
    assert_eq!(row(&tried)["result"], "now", "{tried:?}");
    let text = row(&tried)["text"].to_string();
    assert!(
        text.contains("nothing was changed") && text.contains("1 attempts until now"),
        "{text}"
    );
    let given_up = act(&[&["dead-letter-now", GROUP, &record][..], &why].concat());
    assert_eq!(row(&given_up)["result"], "now", "{given_up:?}");
    eventually(&|| oldest(1)).await;
    let settled = act(&[&["dead-letter-now", GROUP, &record][..], &why].concat());
    assert_eq!(settled.code, 1, "{settled:?}");
    assert!(settled.messages.contains("settled already"), "{settled:?}");

    let key = ["--key", "a key"];
    let paused = act(&[&["pause-key", GROUP][..], &key, &why].concat());
    assert_eq!(row(&paused)["result"], "paused", "{paused:?}");
    let retried = act(&[&["retry-now", GROUP][..], &key, &why].concat());
    assert_eq!(row(&retried)["result"], "retried", "{retried:?}");
    let resumed = act(&[&["resume-key", GROUP][..], &key, &why].concat());
    assert_eq!(row(&resumed)["result"], "resumed", "{resumed:?}");
    let released = act(&[&["release", GROUP][..], &why].concat());
    assert_eq!(row(&released)["action"], "release_held", "{released:?}");
    assert_eq!(row(&released)["result"], "nothing_held", "{released:?}");

    let another = act(&[&["retry-now", "another-group"][..], &key, &why].concat());
    assert_eq!(another.code, 3, "{another:?}");
    let mut wrong = tempfile::NamedTempFile::new().unwrap();
    writeln!(wrong, "another").unwrap();
    let release = ["release", GROUP, "--why", "INC-7", "--by", "ann"];
    let flags = [&release[..], &["--admin", &address, "--token-file"]].concat();
    let path = wrong.path().to_str().unwrap();
    let refused = tokio::task::block_in_place(|| scene.keylane(&[&flags[..], &[path]].concat()));
    assert_eq!(refused.code, 1, "{refused:?}");

    // A member that refuses has not done it: the answer is in part.
    let other = AdminServer::builder().token("another").start().unwrap();
    other.add(handle.clone()).unwrap();
    let address = format!("http://{}", other.local_addr());
    let in_part = act(&[&["pause-key", GROUP, "--admin", &address][..], &key, &why].concat());
    assert_eq!(in_part.code, 3, "{in_part:?}");
    assert!(in_part.output.contains("pause_key"), "{in_part:?}");
    other.shutdown().await;
    let address = format!("http://{}", admin.local_addr());
    let without = scene.keylane(&[&release[..], &["--admin", &address]].concat());
    assert_eq!(without.code, 2, "{without:?}");
    assert!(
        without.messages.contains("KEYLANE_ADMIN_TOKEN"),
        "{without:?}"
    );
    admin.shutdown().await;
    handle.shutdown_within(Duration::ZERO).await.unwrap();
}
