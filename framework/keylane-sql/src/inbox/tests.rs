//! On SQLite: the rules. Time passes by what is written to the tables, and never by waiting.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::time::{Duration, Instant, SystemTime};

use keylane::subscription::CommittedLog;
use keylane::testing::TestTask;
use keylane::{Headers, Processor, Success, Task, TaskError};
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

use super::*;

const SECOND: Duration = Duration::from_secs(1);
/// A wait of 30 seconds, of which 20 count.
const WAIT: Duration = Duration::from_secs(30);
const LIMIT: Duration = Duration::from_secs(20);
const LOG: u64 = 7;

struct Scene {
    inbox: Inbox<sqlx::Sqlite>,
    pool: SqlitePool,
    _directory: tempfile::TempDir,
}

impl Scene {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new()
            .filename(directory.path().join("inbox.db"))
            .create_if_missing(true)
            .busy_timeout(Duration::from_secs(60));
        let pool = SqlitePoolOptions::new()
            .connect_with(options)
            .await
            .unwrap();
        let inbox = Inbox::sqlite(pool.clone(), "notifier")
            .wait(WAIT)
            .margin(WAIT - LIMIT)
            .migrate()
            .await
            .unwrap();
        Self {
            inbox,
            pool,
            _directory: directory,
        }
    }

    /// Entries it in a transaction that commits.
    async fn once(&self, task: &Task<()>) -> Result<Once, InboxError> {
        let mut transaction = self.pool.begin().await.unwrap();
        let once = self.inbox.once(&mut transaction, task).await?;
        transaction.commit().await.unwrap();
        Ok(once)
    }

    /// The rows become so much older.
    async fn pass(&self, time: Duration) {
        for sql in [
            "update keylane_inbox set marked_at = marked_at - $1, lease_until = lease_until - $1",
            "update keylane_inbox_positions set seen_at = seen_at - $1",
            "update keylane_inbox_messages set expires_at = expires_at - $1",
        ] {
            let query = sqlx::query(sql).bind(time.as_secs_f64());
            query.execute(&self.pool).await.unwrap();
        }
    }

    /// The brokers have this position of partition 0, in this log.
    async fn sweep(&self, position: i64, log: u64) -> u64 {
        let read = CommittedLog {
            topic: "parking".to_owned(),
            partition: 0,
            committed: Some((position, Some(log))),
            topic_id: Some(log),
        };
        self.inbox.sweep_by(&[read]).await.unwrap()
    }
}

fn task(offset: i64, log: u64, leader_epoch: i32) -> TestTask<()> {
    TestTask::new(())
        .at("parking", 0, offset)
        .log(log, leader_epoch)
}

/// A retry of the record at this offset, which failed first so long ago.
fn retry(offset: i64, failing_for: Option<Duration>) -> Task<()> {
    let mut headers: Headers = [
        ("keylane-origin-topic", "parking"),
        ("keylane-origin-partition", "0"),
        ("keylane-origin-log", "0000000000000007/1"),
    ]
    .into_iter()
    .collect();
    headers.push("keylane-origin-offset", offset.to_string());
    if let Some(time) = failing_for {
        let since = (SystemTime::now() - time).duration_since(SystemTime::UNIX_EPOCH);
        let seconds = since.unwrap().as_secs();
        headers.push("keylane-first-failure", rfc3339(seconds));
    }
    let task = TestTask::new(()).at("parking-retry", 5, 99).log(8, 0);
    task.headers(headers).of_retry_topic().build()
}

/// Days are counted as in the civil calendar.
fn rfc3339(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let z = days + 719_468;
    let era = z / 146_097;
    let doe = z - era * 146_097;
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.000Z")
}

#[tokio::test]
async fn a_record_is_first_and_then_seen_and_a_rolled_back_one_is_first_again() {
    let scene = Scene::new().await;
    let record = task(4, LOG, 1).build();
    let mut transaction = scene.pool.begin().await.unwrap();
    let once = scene.inbox.once(&mut transaction, &record).await.unwrap();
    assert_eq!(once, Once::First);
    transaction.rollback().await.unwrap();
    assert_eq!(scene.once(&record).await.unwrap(), Once::First);
    assert_eq!(scene.once(&record).await.unwrap(), Once::Seen);
    let other_group = Inbox::sqlite(scene.pool.clone(), "billing")
        .wait(WAIT)
        .margin(SECOND);
    let other_group = other_group.migrate().await.unwrap();
    let mut transaction = scene.pool.begin().await.unwrap();
    let once = other_group.once(&mut transaction, &record).await.unwrap();
    assert_eq!(once, Once::First, "of another group");
}

#[tokio::test]
async fn a_recreated_topic_and_a_log_that_was_cut_have_records_of_their_own() {
    let scene = Scene::new().await;
    for record in [task(4, LOG, 1), task(4, LOG + 1, 1), task(4, LOG, 2)] {
        let record = record.build();
        assert_eq!(scene.once(&record).await.unwrap(), Once::First);
        assert_eq!(scene.once(&record).await.unwrap(), Once::Seen);
    }
}

#[tokio::test]
async fn a_retry_is_the_record_of_its_origin() {
    let scene = Scene::new().await;
    assert_eq!(
        scene.once(&task(4, LOG, 1).build()).await.unwrap(),
        Once::First
    );
    assert_eq!(
        scene.once(&retry(4, Some(SECOND))).await.unwrap(),
        Once::Seen
    );
    assert_eq!(
        scene.once(&retry(5, Some(SECOND))).await.unwrap(),
        Once::First
    );
    assert_eq!(
        scene.once(&task(5, LOG, 1).build()).await.unwrap(),
        Once::Seen
    );
}

#[tokio::test]
async fn an_entry_goes_when_it_is_old_and_the_brokers_position_has_been_above_it_for_as_long() {
    let scene = Scene::new().await;
    for offset in 0..6 {
        scene.once(&task(offset, LOG, 1).build()).await.unwrap();
    }
    assert_eq!(scene.sweep(4, LOG).await, 0, "the position is new");
    scene.pass(WAIT + SECOND).await;
    // A retry comes late: its entry is new.
    assert_eq!(
        scene.once(&retry(9, Some(SECOND))).await.unwrap(),
        Once::First
    );
    assert_eq!(scene.sweep(6, LOG).await, 4, "what was passed a wait ago");
    assert_eq!(
        scene.once(&task(4, LOG, 1).build()).await.unwrap(),
        Once::Seen
    );
    // An operator's reset: nothing above the position goes.
    assert_eq!(scene.sweep(2, LOG).await, 0);
    scene.pass(WAIT + SECOND).await;
    assert_eq!(scene.sweep(10, LOG).await, 0);
    scene.pass(WAIT + SECOND).await;
    assert_eq!(
        scene.sweep(10, LOG).await,
        3,
        "all of them, the retry's entry too"
    );
}

#[tokio::test]
async fn entries_of_a_topic_that_is_gone_go_when_the_other_one_has_been_there_for_a_wait() {
    let scene = Scene::new().await;
    scene.once(&task(4, LOG, 1).build()).await.unwrap();
    scene.pass(WAIT + SECOND).await;
    assert_eq!(scene.sweep(0, LOG + 1).await, 0, "it has just been seen");
    scene.once(&task(0, LOG + 1, 0).build()).await.unwrap();
    scene.pass(WAIT + SECOND).await;
    assert_eq!(scene.sweep(0, LOG + 1).await, 1);
    assert_eq!(
        scene.once(&task(0, LOG + 1, 0).build()).await.unwrap(),
        Once::Seen
    );
    assert_eq!(
        scene.once(&task(4, LOG, 1).build()).await.unwrap(),
        Once::First
    );
}

#[tokio::test]
async fn a_commit_that_names_no_log_sweeps_nothing_where_the_brokers_name_one() {
    let scene = Scene::new().await;
    scene.once(&task(4, LOG, 1).build()).await.unwrap();
    let read = CommittedLog {
        topic: "parking".to_owned(),
        partition: 0,
        committed: Some((10, None)),
        topic_id: Some(LOG),
    };
    for _ in 0..3 {
        assert_eq!(
            scene
                .inbox
                .sweep_by(std::slice::from_ref(&read))
                .await
                .unwrap(),
            0
        );
        scene.pass(WAIT + SECOND).await;
    }
}

/// It stood still while another member made the effect, the position passed, and the entry was swept.
#[tokio::test]
async fn a_fenced_attempt_that_wakes_late_has_no_effect_whether_the_entry_is_there_or_swept() {
    let scene = Scene::new().await;
    let began = Instant::now().checked_sub(LIMIT + SECOND);
    let began = began.expect("the machine has run for half a minute");
    let late = task(4, LOG, 1).began_at(began).build();
    assert_eq!(
        scene.once(&task(4, LOG, 1).build()).await.unwrap(),
        Once::First
    );
    assert_eq!(scene.once(&late).await.unwrap(), Once::Seen);
    scene.sweep(5, LOG).await;
    scene.pass(WAIT + SECOND).await;
    assert_eq!(scene.sweep(5, LOG).await, 1);
    for _ in 0..2 {
        assert!(matches!(
            scene.once(&late).await,
            Err(InboxError::TooLate { .. })
        ));
        let begun = scene.inbox.begin(&late, "push", SECOND).await;
        assert!(matches!(begun, Err(InboxError::TooLate { .. })));
    }
    let rows: i64 = sqlx::query_scalar("select count(*) from keylane_inbox")
        .fetch_one(&scene.pool)
        .await
        .unwrap();
    assert_eq!(rows, 0, "it has left no entry");
}

#[tokio::test]
async fn a_retry_that_no_entry_protects_is_made_and_counted() {
    let recorder = metrics_util::debugging::DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let guard = ::metrics::set_default_local_recorder(&recorder);
    let scene = Scene::new().await;
    drop(guard);
    let unprotected = || {
        let all = snapshotter.snapshot().into_vec();
        all.into_iter()
            .find(|(key, ..)| key.key().name() == "keylane_inbox_unprotected_total")
            .map(|(.., value)| value)
    };
    let count = metrics_util::debugging::DebugValue::Counter;
    assert_eq!(
        scene
            .once(&retry(1, Some(LIMIT - SECOND * 5)))
            .await
            .unwrap(),
        Once::First
    );
    assert_eq!(unprotected(), Some(count(0)));
    assert_eq!(
        scene
            .once(&retry(2, Some(LIMIT + SECOND * 5)))
            .await
            .unwrap(),
        Once::First
    );
    assert_eq!(scene.once(&retry(3, None)).await.unwrap(), Once::First);
    assert_eq!(scene.once(&retry(3, None)).await.unwrap(), Once::Seen);
    assert_eq!(unprotected(), Some(count(2)));
}

#[tokio::test]
async fn a_message_is_seen_at_any_offset_until_its_time_is_over() {
    let scene = Scene::new().await;
    let copy = |offset| task(offset, LOG, 1).message_id("order-4711").build();
    let once_by = async |task: &Task<()>| {
        let mut transaction = scene.pool.begin().await.unwrap();
        let once = scene
            .inbox
            .once_by(&mut transaction, task, SECOND * 60)
            .await
            .unwrap();
        transaction.commit().await.unwrap();
        once
    };
    assert_eq!(once_by(&copy(1)).await, Some(Once::First));
    assert_eq!(once_by(&copy(2)).await, Some(Once::Seen));
    assert_eq!(once_by(&task(3, LOG, 1).build()).await, None);
    scene.pass(SECOND * 61).await;
    assert_eq!(
        once_by(&copy(4)).await,
        Some(Once::First),
        "too late to be seen"
    );
    scene.pass(SECOND * 61).await;
    assert_eq!(scene.sweep(0, LOG).await, 1);
}

#[tokio::test]
async fn an_effect_is_done_once_completed_and_taken_over_when_its_lease_is_over() {
    let scene = Scene::new().await;
    let record = task(4, LOG, 1).build();
    let begin = async || {
        scene
            .inbox
            .begin(&record, "push", SECOND * 3_600)
            .await
            .unwrap()
    };
    let Begun::First(crashed) = begin().await else {
        panic!("it is the first")
    };
    scene.pass(SECOND * 3_601).await;
    let Begun::TakenOver(effect) = begin().await else {
        panic!("its lease is over")
    };
    assert!(matches!(
        crashed.complete().await,
        Err(InboxError::LeaseLost { .. })
    ));
    effect.complete().await.unwrap();
    assert!(matches!(begin().await, Begun::Done));

    let begun = scene
        .inbox
        .begin(&record, "sms", SECOND * 3_600)
        .await
        .unwrap();
    let Begun::First(sms) = begun else {
        panic!("another effect of the record")
    };
    sms.release().await.unwrap();
    let begun = scene.inbox.begin(&record, "sms", SECOND).await.unwrap();
    assert!(matches!(begun, Begun::First(_)), "it was given back");
    assert_eq!(
        scene.once(&record).await.unwrap(),
        Once::First,
        "the transaction is one more"
    );
}

#[tokio::test]
async fn a_second_attempt_waits_for_the_first() {
    let scene = Scene::new().await;
    let record = task(4, LOG, 1).build();
    let Begun::First(first) = scene
        .inbox
        .begin(&record, "push", SECOND * 3_600)
        .await
        .unwrap()
    else {
        panic!("it is the first")
    };
    let second = scene.inbox.begin(&record, "push", SECOND);
    let complete = async {
        tokio::task::yield_now().await;
        first.complete().await.unwrap();
    };
    let (second, ()) = tokio::join!(second, complete);
    assert!(matches!(second.unwrap(), Begun::Done));
}

#[tokio::test]
async fn the_layer_calls_its_processor_until_that_has_succeeded() {
    let scene = Scene::new().await;
    let answers = std::sync::Mutex::new(vec![Ok(()), Err(TaskError::retryable("busy"))]);
    let push = keylane::processing::processor_fn(move |_: Task<()>| {
        let answer = answers.lock().unwrap().pop().expect("a third call");
        async move { answer }
    });
    let push = push.layered(Dedup::new(scene.inbox.clone(), "push", SECOND * 60));
    let attempt = || push.process(task(4, LOG, 1).build());
    assert_eq!(attempt().await.unwrap_err().to_string(), "busy");
    assert_eq!(attempt().await.unwrap(), Success::Done);
    assert_eq!(
        attempt().await.unwrap(),
        Success::skipped("seen in the inbox")
    );
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_the_fix() {
    let scene = Scene::new().await;
    let builder = || Inbox::sqlite(scene.pool.clone(), "notifier");
    let missing = builder().table("other").unwrap().open().await.unwrap_err();
    assert!(
        missing.to_string().contains("call `migrate` first"),
        "{missing}"
    );
    let times = builder().wait(SECOND).open().await.unwrap_err();
    assert!(times.to_string().contains("raise the wait"), "{times}");
    assert!(builder().table("a;b").is_err());
    sqlx::query("update keylane_inbox_groups set version = 2")
        .execute(&scene.pool)
        .await
        .unwrap();
    assert!(matches!(
        builder().open().await,
        Err(InboxError::Newer { .. })
    ));
}
