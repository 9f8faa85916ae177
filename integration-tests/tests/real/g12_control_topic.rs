//! G12, operators' acts are safe: a pause by the control topic survives the death of all members,
//! and partitions that move.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use keylane::config::ControlTopic;
use keylane_cli::Surroundings;
use keylane_integration_tests::{
    kafka::{Extras, Kafka, Nodes},
    kafka_or_skip,
    load::numbered,
    process::Process,
    scene::{DEADLINE, Scene},
    wait::{wait_for, wait_until},
};

use super::commands::{self, TIMEOUT};

const PARTITIONS: i32 = 6;
/// The one that is paused.
const ILL: i32 = 2;

/// Where attempts began: partition and offset, over all processes.
type Started = Arc<Mutex<Vec<(i32, i64)>>>;

fn start_member(scene: &Scene<'_>, started: &Started) -> Process {
    let mut child = Command::new(env!("CARGO_BIN_EXE_member"))
        .args([scene.kafka.bootstrap_servers(), &scene.group, &scene.topic])
        .arg(scene.protocol.name())
        .env("KEYLANE_CONTROL_TOPIC", "yes")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let started = started.clone();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let words: Vec<&str> = line.split(' ').collect();
            if let ["started", partition, offset, ..] = words[..] {
                let place = (partition.parse().unwrap(), offset.parse().unwrap());
                started.lock().unwrap().push(place);
            }
        }
    });
    Process { child }
}

/// Runs a command, which must succeed; its messages.
async fn keylane(kafka: &Kafka, arguments: &[&str]) -> String {
    let servers = kafka.bootstrap_servers();
    let all: Vec<_> = ["keylane", "--bootstrap", servers, "--timeout", TIMEOUT]
        .iter()
        .chain(arguments)
        .map(Into::into)
        .collect();
    let run = move || {
        let (mut output, mut messages) = (Vec::new(), Vec::new());
        let surroundings = Surroundings {
            environment: BTreeMap::from([("USER".to_owned(), "ann".to_owned())]),
            output: &mut output,
            messages: &mut messages,
            ask: None,
            progress: keylane_cli::Progress::Hidden,
        };
        let code = keylane_cli::run(all, surroundings);
        let messages = String::from_utf8(messages).unwrap();
        assert_eq!(code, 0, "{messages}");
        String::from_utf8(output).unwrap() + &messages
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// What `control show` says; `None` where a broker does not answer now.
async fn shown(scene: &Scene<'_>, more: &[&str]) -> Option<String> {
    let show = [&["control", "show", &*scene.group][..], more].concat();
    let (code, output, messages) = commands::keylane(scene.kafka, &show).await;
    (code == 0).then(|| output + &messages)
}

/// Waits until all of so many members run what the topic says.
async fn applied(scene: &Scene<'_>, members: usize) {
    let what = format!("{members} of {members} applied");
    wait_for(&what, DEADLINE, async || {
        let shown = shown(scene, &[]).await?;
        shown.contains(&what).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_control_topic_pauses_is_not_attempted_though_all_members_are_killed() {
    let kafka = kafka_or_skip!(Nodes::One, Extras::quick_sessions());
    let scene = Scene::new(kafka, PARTITIONS).await;
    let group = &*scene.group;
    keylane(kafka, &["control", "create", group]).await;

    let started = Started::default();
    let attempted = |partition: i32| -> BTreeSet<i64> {
        let started = started.lock().unwrap();
        let of_it = started.iter().filter(|(found, _)| *found == partition);
        of_it.map(|(_, offset)| *offset).collect()
    };
    // The offsets of each partition that are there.
    let ends = async || scene.kafka.end_offsets(&scene.topic).await.unwrap();
    let all_but = |ends: &[i64], left_out: Option<i32>| {
        (0..PARTITIONS)
            .zip(ends)
            .filter(|(partition, _)| Some(*partition) != left_out)
            .all(|(partition, end)| attempted(partition).len() as i64 == *end)
    };

    let members: Vec<_> = (0..3).map(|_| start_member(&scene, &started)).collect();
    applied(&scene, 3).await;
    scene.write(numbered(0..600, 200)).await;
    let written = ends().await;
    wait_until("all are attempted", DEADLINE, || all_but(&written, None)).await;
    // A member that falls out of the group leaves nothing of them to attempt again.
    scene.all_committed().await;

    let (topic, ill) = (&*scene.topic, ILL.to_string());
    let place = ["--topic", topic, "--partition", &ill];
    let why = ["--why", "the partition is ill"];
    keylane(kafka, &[&["pause", group][..], &place, &why].concat()).await;
    applied(&scene, 3).await;
    let before = attempted(ILL);
    scene.write(numbered(600..1_200, 200)).await;
    let written = ends().await;
    wait_until("the others go on", DEADLINE, || {
        all_but(&written, Some(ILL))
    })
    .await;
    assert_eq!(attempted(ILL), before, "broken promise: it was paused");

    // Killed at once, and fewer of them come back: partitions move.
    drop(members);
    let members: Vec<_> = (0..2).map(|_| start_member(&scene, &started)).collect();
    scene.write(numbered(1_200..1_800, 200)).await;
    let written = ends().await;
    wait_until("the others go on", DEADLINE, || {
        all_but(&written, Some(ILL))
    })
    .await;
    // Also when those that were killed are out of the group.
    applied(&scene, 2).await;
    assert_eq!(attempted(ILL), before, "broken promise: it was paused");
    let shown = keylane(kafka, &["control", "show", group, "-o", "json"]).await;
    for part in ["the partition is ill", "ann", "gone"] {
        assert!(shown.contains(part), "{shown}");
    }

    keylane(kafka, &[&["resume", group][..], &place].concat()).await;
    wait_until("it goes on", DEADLINE, || all_but(&written, None)).await;
    for mut member in members {
        drop(member.child.stdin.take());
        let ended = tokio::task::spawn_blocking(move || member.child.wait().unwrap());
        assert!(ended.await.unwrap().success());
    }
    let shown = keylane(kafka, &["control", "show", group, "-o", "json"]).await;
    assert!(!shown.contains("applied\""), "they took it back: {shown}");
    // Nothing else ends here but by its own act.
    tokio::time::timeout(Duration::from_secs(60), scene.all_committed())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_skip_is_void_for_another_log_and_goes_when_it_is_committed() {
    let kafka = kafka_or_skip!(Nodes::One);
    let scene = Scene::new(kafka, 1).await;
    let (group, topic) = (&*scene.group, &*scene.topic);
    keylane(kafka, &["control", "create", group]).await;
    let show = async || shown(&scene, &["-o", "json"]).await;
    let skip = async |offset: i64, more: &[&str]| {
        let record = format!("{topic}/0@{offset}");
        keylane(kafka, &[&["skip", group, &record], more].concat()).await
    };
    let why = ["--why", "it is damaged"];

    // The order is about records that go with their topic.
    scene.write(numbered(0..3, 3)).await;
    skip(1, &why).await;
    kafka.delete_topic(topic).await.unwrap();
    kafka.create_topic(topic, 1, 1, &[]).await.unwrap();
    scene.write(numbered(3..6, 3)).await;
    wait_for("it is shown as void", DEADLINE, async || {
        show().await?.contains("void").then_some(())
    })
    .await;
    let start = async |name: &str| {
        let builder = scene.subscribe().control_topic(ControlTopic::default());
        scene.worker(builder, name, Duration::ZERO).await
    };
    let member = start("first").await;
    scene.done(3).await;
    wait_for("the void order is taken out", DEADLINE, async || {
        (!show().await?.contains("\"skip\"")).then_some(())
    })
    .await;

    // Written while nothing starts, skipped, and never attempted, also by the next member.
    keylane(kafka, &["pause", group, "--why", "to look at it"]).await;
    applied(&scene, 1).await;
    scene.write(numbered(6..9, 3)).await;
    skip(4, &why).await;
    member.shutdown().await.unwrap();
    let member = start("second").await;
    keylane(kafka, &["resume", group]).await;
    wait_for("the skip is taken back", DEADLINE, async || {
        (!show().await?.contains("\"skip\"")).then_some(())
    })
    .await;
    scene.all_committed().await;
    let third = start("third").await;
    member.shutdown().await.unwrap();
    scene.write(numbered(9..10, 1)).await;
    scene.all_committed().await;
    third.shutdown().await.unwrap();
    let mut started = scene.started(|_| true);
    started.sort_unstable();
    assert_eq!(started, [0, 1, 2, 3, 5, 6], "4 is skipped, and no other");
}
