//! G12: redrives by the admin servers of two members.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use keylane::{DeadLetter, Raw, Retry, Subscription, Task, TaskError};
use keylane_admin::AdminServer;
use keylane_integration_tests::{kafka::Nodes, kafka_or_skip, wait::wait_for};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::redrive::Scene;

const DEADLINE: Duration = Duration::from_secs(120);
const TOKEN: &str = "b3f1-4c2a-9d7e";
const LETTERS: i64 = 60;

/// A member with its admin server.
struct Member {
    subscription: Subscription,
    admin: AdminServer,
}

impl Member {
    async fn start(scene: &Scene, origin: &str) -> Self {
        let subscription = Subscription::builder(&scene.group, origin)
            .bootstrap_servers(scene.kafka.bootstrap_servers())
            .retry(Retry::none())
            .dead_letter(DeadLetter::topic(&scene.dead))
            .start(Raw, |_: Task<bytes::Bytes>| async {
                Ok::<(), TaskError>(())
            })
            .await
            .unwrap();
        let admin = AdminServer::builder().token(TOKEN).start().unwrap();
        admin.add(subscription.handle()).unwrap();
        Self {
            subscription,
            admin,
        }
    }

    /// Below the paths of dead letters.
    async fn post(&self, scene: &Scene, path: &str, mut body: Value) -> (u16, Value) {
        (body["by"], body["why"]) = ("ann".into(), "INC-7".into());
        ask(
            self.admin.local_addr(),
            "POST",
            scene,
            path,
            &body.to_string(),
        )
        .await
    }

    /// Waits until the task stands like this.
    async fn await_state(&self, scene: &Scene, task: &str, state: &str) {
        let path = format!("tasks/{task}");
        wait_for(&format!("{task} is {state}"), DEADLINE, async || {
            let (_, answer) = ask(self.admin.local_addr(), "GET", scene, &path, "").await;
            (answer["tasks"][0]["state"] == state).then_some(())
        })
        .await;
    }
}

/// In HTTP/1.0 an answer comes in one piece, and ends with the connection.
async fn ask(
    address: SocketAddr,
    method: &str,
    scene: &Scene,
    path: &str,
    body: &str,
) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let (group, length) = (&scene.group, body.len());
    let head = format!(
        "{method} /v1/subscriptions/{group}/dead-letters/{path} HTTP/1.0\r\nHost: localhost\r\n\
         Authorization: Bearer {TOKEN}\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all((head + body).as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_members_that_are_asked_at_once_one_redrives_and_each_letter_has_one_copy() {
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = Scene::new(kafka).await;
    scene.write(LETTERS, 7, |_| "exhausted").await;
    let origin = kafka.unique("origin");
    kafka.create_topic(&origin, 1, 1, &[]).await.unwrap();
    let began = Instant::now();
    let (a, b) = tokio::join!(
        Member::start(&scene, &origin),
        Member::start(&scene, &origin)
    );

    let (status, dry) = a.post(&scene, "redrive", json!({"dry_run": true})).await;
    assert_eq!(status, 200, "{dry}");
    assert_eq!(
        (&dry["plan"]["turns"], &dry["refusal"]),
        (&LETTERS.into(), &Value::Null)
    );
    scene.check_copies(std::iter::empty()).await;

    // They last until they are cancelled.
    let slow = |name| json!({"name": name, "rate": 1, "window": 1});
    let (of_a, of_b) = tokio::join!(
        a.post(&scene, "redrive", slow("of-a")),
        b.post(&scene, "redrive", slow("of-b"))
    );
    let (winner, refused) = match of_a.0 {
        202 => ("of-a", &of_b),
        _ => ("of-b", &of_a),
    };
    let mut statuses = [of_a.0, of_b.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [202, 409], "{of_a:?} {of_b:?}");
    match refused.1["code"].as_str() {
        Some("unfinished") => {
            let detail = refused.1["detail"].to_string();
            assert!(detail.contains(winner), "{detail}");
        }
        code => assert_eq!(code, Some("taken_over"), "{refused:?}"),
    }

    // Any member cancels it, and the next redrive copies what is left.
    let path = format!("tasks/{winner}/cancel");
    let (status, cancelled) = b.post(&scene, &path, json!({})).await;
    assert_eq!(status, 202, "{cancelled}");
    a.await_state(&scene, winner, "cancelled").await;
    let rest = json!({"name": "the-rest", "filter": ["reason=exhausted"]});
    // The end is written before the task's clients are closed: until then it runs there.
    wait_for("the rest begins", DEADLINE, async || {
        let (status, begun) = a.post(&scene, "redrive", rest.clone()).await;
        if begun["code"] == "redrive_runs" {
            return None;
        }
        assert_eq!(
            (status, &begun["task"]),
            (202, &"the-rest".into()),
            "{begun}"
        );
        Some(())
    })
    .await;
    b.await_state(&scene, "the-rest", "done").await;
    scene.check_copies(0..LETTERS).await;
    eprintln!("redrives over HTTP in {:.1?}", began.elapsed());

    for member in [a, b] {
        member.admin.shutdown().await;
        member.subscription.shutdown().await.unwrap();
    }
}
