//! Redrives by request, on an embedded broker. It has no transactions: what only these can show is
//! tested on a real Kafka.

use keylane::config::KafkaSettings;
use keylane::operator::Operator;
use keylane::{NewTask, TaskProducer};
use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};
use serde_json::json;

use super::*;

const PATIENCE: Duration = Duration::from_secs(90);
const REDRIVE: &str = "/v1/subscriptions/a/dead-letters/redrive";
const TASKS: &str = "/v1/subscriptions/a/dead-letters/tasks";

/// A subscription with dead letters.
struct Scene {
    broker: EmbeddedBroker,
    subscription: Arc<Scripted>,
    shared: Arc<Shared>,
}

fn letter(number: i64) -> NewTask {
    NewTask::new(format!("{{\"number\":{number}}}"))
        .key(format!("key-{}", number % 3))
        .header("keylane-origin-topic", "tasks")
        .header("keylane-origin-partition", "0")
        .header("keylane-origin-offset", number.to_string())
        .header("keylane-group", "group")
        .header("keylane-reason", "exhausted")
        .header("keylane-error", format!("order {number} refused"))
        .header("keylane-retry-topic", "retry")
}

impl Scene {
    async fn with(letters: impl IntoIterator<Item = NewTask>) -> Self {
        let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
        for topic in ["dead", "retry", "other", "group-keylane-ops"] {
            broker.create_topic(topic, 1).unwrap();
        }
        let producer = TaskProducer::builder("dead")
            .application_id("test")
            .bootstrap_servers(broker.bootstrap_servers())
            .kafka_settings(EmbeddedBroker::producer_settings())
            .start()
            .await
            .unwrap();
        let letters = letters.into_iter().collect::<Vec<_>>();
        let written = producer.enqueue_all(letters).await;
        assert!(written.iter().all(Result::is_ok), "{written:?}");
        producer.close(PATIENCE).await.unwrap();
        let subscription = subscription_at("a", broker.bootstrap_servers());
        subscription.change(|it| *it = SubscriptionStatus::new(State::Running));
        let shared = shared([&subscription], Some(TOKEN));
        Self {
            broker,
            subscription,
            shared,
        }
    }

    async fn post(&self, path: &str, more: Value) -> Answer {
        let mut body = json!({"by": "ann", "why": "INC-7"});
        let fields = more.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(fields);
        send(&self.shared, "POST", path, &body.to_string()).await
    }

    /// Repeats the request while the last redrive, whose end is written, still closes its clients.
    async fn post_after_the_last(&self, path: &str) -> Answer {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let answer = self.post(path, json!({})).await;
            if answer.status != StatusCode::CONFLICT || tokio::time::Instant::now() >= deadline {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn get(&self, path: &str) -> Answer {
        send(&self.shared, "GET", path, "").await
    }

    /// Waits until the task stands like this, as the operations topic has it.
    async fn await_state(&self, task: &str, state: &str) -> Value {
        let path = format!("{TASKS}/{task}");
        let found = async {
            loop {
                let answer = self.get(&path).await;
                let shown = answer.json()["tasks"][0].clone();
                if shown["state"] == state {
                    break shown;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, found).await;
        found.unwrap_or_else(|_| panic!("{task} is not {state}"))
    }

    /// The records of a topic.
    async fn count(&self, topic: &'static str) -> i64 {
        let servers = self.broker.bootstrap_servers().to_owned();
        let count = move || {
            let settings = KafkaSettings::new();
            let operator = Operator::connect(&servers.into(), &settings, "group", PATIENCE);
            let range = operator.unwrap().range(topic, 0).unwrap();
            range.end.get() - range.first.get()
        };
        tokio::task::spawn_blocking(count).await.unwrap()
    }
}

async fn send(shared: &Arc<Shared>, method: &str, path: &str, body: &str) -> Answer {
    let request = request(method, path).header("Authorization", format!("Bearer {TOKEN}"));
    ask(shared, request.body(Body::from(body.to_owned())).unwrap()).await
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_copied_and_writes_nothing() {
    let scene = Scene::with((0..5).map(letter)).await;
    let filter = json!({"filter": ["offset=1.."], "max": 3, "dry_run": true});
    let answer = scene.post(REDRIVE, filter).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let answer = answer.json();
    assert_eq!(
        (&answer["dry_run"], &answer["task"]),
        (&true.into(), &Value::Null)
    );
    let plan = &answer["plan"];
    assert_eq!((&plan["matched"], &plan["turns"]), (&4.into(), &4.into()));
    assert_eq!(plan["targets"], json!({"retry": 4}));
    assert_eq!(
        plan["fingerprints"][0]["fingerprint"],
        "exhausted: order <n> refused"
    );
    assert_eq!(plan["ranges"], json!([[0, 0, 5]]));
    assert_eq!(scene.count("retry").await, 0);
    assert_eq!(scene.count("group-keylane-ops").await, 0);
}

#[tokio::test]
async fn a_redrive_runs_to_its_end_and_its_task_says_who_ordered_it_and_why() {
    let scene = Scene::with((0..5).map(letter)).await;
    let order = json!({
        "filter": ["reason=exhausted"],
        "name": "after-the-outage",
        "merge_patch": {"gate": "north"},
        "window": 2,
    });
    let answer = scene.post(REDRIVE, order.clone()).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
    assert_eq!(answer.json()["task"], "after-the-outage");
    let task = scene.await_state("after-the-outage", "done").await;
    assert_eq!(
        [&task["by"], &task["why"], &task["done"], &task["filter"]],
        [
            &json!("ann"),
            &json!("INC-7"),
            &json!(5),
            &json!("reason=exhausted")
        ]
    );
    assert_eq!(scene.count("retry").await, 5);
    let all = scene.get(TASKS).await.json();
    assert_eq!(all["tasks"].as_array().unwrap().len(), 1);
    assert_eq!(all["here"]["task"], "after-the-outage");
    // What was copied is left out, and so there is no other task.
    let again = scene.post_after_the_last(REDRIVE).await;
    assert_eq!(again.status, StatusCode::OK, "{}", again.text);
    assert_eq!(
        (&again.json()["task"], &again.json()["plan"]["handled"]),
        (&Value::Null, &5.into())
    );
}

#[tokio::test]
async fn one_redrive_runs_at_a_time_and_ends_by_request() {
    let scene = Scene::with((0..5).map(letter)).await;
    // Nothing settles its canary, so it lasts.
    let slow = json!({"name": "slow", "canary": 1, "window": 1});
    let answer = scene.post(REDRIVE, slow).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
    let second = scene.post(REDRIVE, json!({})).await;
    assert_eq!(
        (second.status, &second.json()["code"]),
        (StatusCode::CONFLICT, &"redrive_runs".into())
    );
    // Another member has the same answer from the operations topic.
    let elsewhere = shared([&scene.subscription], Some(TOKEN));
    let body = r#"{"by": "bob", "why": "INC-8"}"#;
    let third = send(&elsewhere, "POST", REDRIVE, body).await;
    assert_eq!(
        (third.status, &third.json()["code"]),
        (StatusCode::CONFLICT, &"unfinished".into())
    );
    let detail = third.json()["detail"].to_string();
    assert!(detail.contains("redrive slow"), "{detail}");
    let cancelled = scene.post(&format!("{TASKS}/slow/cancel"), json!({})).await;
    assert_eq!(cancelled.status, StatusCode::ACCEPTED, "{}", cancelled.text);
    let task = scene.await_state("slow", "cancelled").await;
    assert_eq!(task["cancel"], json!({"by": "ann", "why": "INC-7"}));
    let again = scene.post(&format!("{TASKS}/slow/cancel"), json!({})).await;
    assert_eq!(again.json()["code"], "already_ended");
}

#[tokio::test]
async fn a_redrive_stops_with_its_subscription_and_is_resumed() {
    let scene = Scene::with((0..4).map(letter)).await;
    // The canary is never settled: nothing reads the retry topic.
    let order = json!({"name": "held", "canary": 1, "merge_patch": {"gate": "north"}});
    let answer = scene.post(REDRIVE, order).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
    scene.subscription.set_state(State::Draining);
    scene.shared.redrives.shutdown(PATIENCE).await;
    let here = scene.get(TASKS).await.json()["here"].clone();
    assert_eq!(
        (&here["task"], &here["phase"]),
        (&"held".into(), &"stopped".into())
    );
    let refused = scene.post(REDRIVE, json!({})).await;
    assert_eq!(refused.json()["code"], "closing");
    // Another member goes on with it, and needs no patch: the task has it.
    scene.subscription.set_state(State::Running);
    let elsewhere = shared([&scene.subscription], Some(TOKEN));
    let body = r#"{"by": "bob", "why": "the other member"}"#;
    let path = format!("{TASKS}/held/resume");
    let resumed = send(&elsewhere, "POST", &path, body).await;
    assert_eq!(resumed.status, StatusCode::ACCEPTED, "{}", resumed.text);
    let here = send(&elsewhere, "GET", TASKS, "").await.json()["here"].clone();
    assert_eq!((&here["task"], &here["of"]), (&"held".into(), &4.into()));
    elsewhere.redrives.shutdown(PATIENCE).await;
}

#[tokio::test]
async fn what_no_redrive_can_be_made_of_is_refused() {
    let scene = Scene::with([letter(0)]).await;
    for (more, words) in [
        (json!({"through": "jq ."}), "commands are not run"),
        (json!({"group": "other"}), "that of the subscription"),
        (json!({"canray": 7}), "canray"),
        (json!({"filter": ["raeson=fatal"]}), "raeson"),
        (json!({"to": "a topic"}), "no topic's name"),
        (json!({"window": 0}), "from 1 to 10,000"),
        (json!({"by": " "}), "who orders this"),
    ] {
        let answer = scene.post(REDRIVE, more.clone()).await;
        assert_eq!(
            answer.status,
            StatusCode::BAD_REQUEST,
            "{more}: {}",
            answer.text
        );
        assert!(answer.text.contains(words), "{more}: {}", answer.text);
    }
    let missing = scene
        .post(&format!("{TASKS}/not-there/resume"), json!({}))
        .await;
    assert_eq!(
        (missing.status, &missing.json()["code"]),
        (StatusCode::NOT_FOUND, &"no_such_task".into())
    );
}

#[tokio::test]
async fn letters_that_name_no_retry_topic_are_refused_with_what_to_do() {
    let without = NewTask::new("{}")
        .header("keylane-group", "group")
        .header("keylane-reason", "exhausted");
    let scene = Scene::with([without]).await;
    let dry = scene.post(REDRIVE, json!({"dry_run": true})).await.json();
    let refusal = dry["refusal"].as_str().unwrap();
    assert!(refusal.contains("`retry_topic`"), "{refusal}");
    let refused = scene.post(REDRIVE, json!({})).await;
    assert_eq!(
        (refused.status, &refused.json()["code"]),
        (StatusCode::CONFLICT, &"no_retry_topic".into())
    );
    let named = json!({"retry_topic": "other", "name": "by-name"});
    let answer = scene.post(REDRIVE, named).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
    scene.await_state("by-name", "done").await;
    assert_eq!(scene.count("other").await, 1);
}

#[tokio::test]
async fn letters_are_marked_as_handled_and_a_redrive_leaves_them_out() {
    let scene = Scene::with((0..3).map(letter)).await;
    let resolve = "/v1/subscriptions/a/dead-letters/resolve";
    let letters = json!({"letters": [[0, 0, 1]]});
    let answer = scene.post(resolve, letters.clone()).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let plan = scene.post(REDRIVE, json!({"dry_run": true})).await.json()["plan"].clone();
    assert_eq!((&plan["turns"], &plan["handled"]), (&1.into(), &2.into()));
    for wrong in [
        json!([]),
        json!([[0, 3, 1]]),
        json!([[-1, 0, 0]]),
        json!("all"),
    ] {
        let answer = scene.post(resolve, json!({"letters": wrong})).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text);
    }
}

/// The paths of the description, each with an answer that it gave.
type Given = Vec<(&'static str, Answer)>;

const REDRIVE_PATH: &str = "/v1/subscriptions/{name}/dead-letters/redrive";
const RESOLVE_PATH: &str = "/v1/subscriptions/{name}/dead-letters/resolve";
const TASKS_PATH: &str = "/v1/subscriptions/{name}/dead-letters/tasks";
const TASK_PATH: &str = "/v1/subscriptions/{name}/dead-letters/tasks/{task}";
const CANCEL_PATH: &str = "/v1/subscriptions/{name}/dead-letters/tasks/{task}/cancel";
const RESUME_PATH: &str = "/v1/subscriptions/{name}/dead-letters/tasks/{task}/resume";

/// Every answer that there is about dead letters, for the comparison with the description.
pub(super) async fn every_answer() -> Given {
    let scene = Scene::with((0..3).map(letter)).await;
    let mut given = refusals(&scene).await;
    let held = |path: &str| path.replace("{name}", "a").replace("{task}", "held");
    let mut post = async |path: &'static str, more: Value| {
        let answer = scene.post(&held(path), more).await;
        given.push((path, answer));
    };
    post(REDRIVE_PATH, json!({"dry_run": true})).await;
    post(RESOLVE_PATH, json!({"letters": [[0, 0, 0]]})).await;
    // It waits for its canary.
    post(REDRIVE_PATH, json!({"name": "held", "canary": 1})).await;
    post(REDRIVE_PATH, json!({})).await;
    post(RESUME_PATH, json!({})).await;
    for path in [TASKS_PATH, TASK_PATH] {
        given.push((path, scene.get(&held(path)).await));
    }
    scene.shared.redrives.shutdown(PATIENCE).await;
    let elsewhere = shared([&scene.subscription], Some(TOKEN));
    let body = r#"{"by": "bob", "why": "INC-8"}"#;
    for path in [RESUME_PATH, CANCEL_PATH] {
        given.push((path, send(&elsewhere, "POST", &held(path), body).await));
    }
    scene.await_state("held", "cancelled").await;
    let again = send(&elsewhere, "POST", &held(CANCEL_PATH), body).await;
    given.push((CANCEL_PATH, again));
    elsewhere.redrives.shutdown(PATIENCE).await;
    given
}

async fn refusals(scene: &Scene) -> Given {
    let (shared, mut given) = (&scene.shared, Given::new());
    let read_only = super::shared([&scene.subscription], None);
    let mut away = Arc::into_inner(super::shared([&running("a")], Some(TOKEN))).unwrap();
    away.redrives = Arc::new(Redrives::new(Duration::from_millis(20)));
    let away = Arc::new(away);
    for (path, method) in [
        (REDRIVE_PATH, "POST"),
        (RESOLVE_PATH, "POST"),
        (TASKS_PATH, "GET"),
        (TASK_PATH, "GET"),
        (CANCEL_PATH, "POST"),
        (RESUME_PATH, "POST"),
    ] {
        let here = path.replace("{name}", "a").replace("{task}", "not-there");
        let mut body = json!({"by": "ann", "why": "INC-7"});
        if path == RESOLVE_PATH {
            body["letters"] = json!([[0, 0, 0]]);
        }
        let body = body.to_string();
        let mut give = async |shared: &Arc<Shared>, path_there: &str, body: &str| {
            let answer = send(shared, method, path_there, body).await;
            given.push((path, answer));
        };
        give(shared, &here.replace("/a/", "/b/"), &body).await;
        give(&read_only, &here, &body).await;
        give(&away, &here, &body).await;
        if path.contains("{task}") {
            give(shared, &here, &body).await;
        }
        match method {
            "POST" => {
                give(shared, &here, "{}").await;
                give(shared, &here, &"x".repeat(1 << 20)).await;
            }
            _ => give(shared, &format!("{here}?limit=0"), "").await,
        }
        let without = request(method, &here).body(Body::from(body)).unwrap();
        given.push((path, ask(shared, without).await));
    }
    given
}
