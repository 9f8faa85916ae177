//! The member that is scraped: records and two files set what goes wrong.

#![allow(
    clippy::unwrap_used,
    reason = "a member that fails stops, and its test finds it dead"
)]

use std::{
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use keylane::config::{Backoff, ControlTopic, Watchdog};
use keylane::{DeadLetter, NewTask, Raw, Retry, Subscription, SubscriptionHandle, Task, TaskError};
use keylane_admin::AdminServer;
use keylane_sql::{
    inbox::Inbox,
    outbox::{Outbox, Relay},
};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

/// A minute of the alert rules, as the tests run them.
pub const MINUTE: Duration = Duration::from_secs(3);
/// What the variables of a member begin with.
pub const VARIABLE: &str = "KEYLANE_OPERATIONS_";
/// While it is there, every attempt fails.
pub const DOWN: &str = "downstream-is-down";
/// The error of each.
pub const DOWN_SAYS: &str = "the downstream is down";
/// While it is there, [`HANG`] hangs.
pub const CLOSED: &str = "gate-is-closed";

/// The value of a record whose attempt lasts while [`CLOSED`] is there.
pub const HANG: &str = "hang";
/// The value of a record that aborts its process.
pub const ABORT: &str = "abort";
/// The value of a record whose attempt fails for good.
pub const FATAL: &str = "fatal";
/// The value of a record whose first attempt fails.
pub const FLAKY: &str = "flaky";

/// Runs until its input ends.
///
/// # Panics
/// When one of the variables is missing, or the subscription does not start or end well.
pub async fn run() {
    let variable = |name: &str| {
        let name = format!("{VARIABLE}{name}");
        std::env::var(&name).unwrap_or_else(|_| panic!("{name} is not set"))
    };
    let (servers, topic, group) = (variable("SERVERS"), variable("TOPIC"), variable("GROUP"));
    let (metrics, admin) = (variable("METRICS"), variable("ADMIN"));
    let (directory, name) = (variable("DIRECTORY"), variable("MEMBER"));
    super::log_to_stderr();
    let address = |text: String| text.parse::<std::net::SocketAddr>().unwrap();
    keylane::metrics::serve_prometheus(address(metrics)).unwrap();
    let directory = PathBuf::from(directory);
    let directory_of_outbox = directory.join(format!("{name}.db"));
    let process = move |task: Task<Bytes>| {
        let directory = directory.clone();
        async move { attempt(&directory, &task).await }
    };
    let subscription = Subscription::builder(&group, &topic)
        .bootstrap_servers(&*servers)
        .startup_timeout(Duration::from_secs(60))
        .concurrency(16)
        // Above what the partitions may run: its figures are there to be read.
        .max_in_flight(1_000)
        .commit_interval(Duration::from_millis(500))
        .drain_timeout(Duration::from_secs(2))
        .retry(Retry::in_place(3).backoff(Backoff::exponential(
            Duration::from_millis(100),
            Duration::from_millis(500),
        )))
        .dead_letter(DeadLetter::topic(format!("{topic}-dead")))
        .control_topic(ControlTopic::default())
        .watchdog(
            Watchdog::default()
                .slow_attempt(MINUTE / 2)
                .stalled_after(MINUTE),
        )
        // Its place is free at once when it starts again after a crash.
        .instance_id(name)
        .kafka("session.timeout.ms", "6000")
        .kafka("heartbeat.interval.ms", "500")
        // A twentieth of the default, as a minute is here: how often the brokers are tried in vain
        // is what a rule counts.
        .kafka("reconnect.backoff.max.ms", "500")
        .start(Raw, process)
        .await
        .unwrap();
    let _admin = AdminServer::builder()
        .address(address(admin))
        .subscription(subscription.handle())
        .start()
        .unwrap();
    let relay = match std::env::var_os(format!("{VARIABLE}OUTBOX")) {
        Some(_) => {
            let handle = subscription.handle();
            Some(outbox(&servers, &topic, directory_of_outbox, &handle).await)
        }
        None => None,
    };
    let end_of_input = tokio::task::spawn_blocking(|| {
        while std::io::stdin()
            .read(&mut [0; 64])
            .is_ok_and(|read| read > 0)
        {}
    });
    subscription.run_until(end_of_input).await.unwrap();
    if let Some(relay) = relay {
        relay.stop().await.unwrap();
    }
}

/// A relay, and a task now and then, so that its figures are there to be read; and an inbox.
async fn outbox(
    servers: &str,
    topic: &str,
    file: PathBuf,
    subscription: &SubscriptionHandle,
) -> Relay {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true);
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .connect_lazy_with(options);
    let outbox = Outbox::sqlite(pool.clone())
        .topic(format!("{topic}-outbox"))
        .buckets(1);
    outbox.migrate().await.unwrap();
    let inbox = Inbox::sqlite(pool.clone(), subscription.group()).sweep_every(MINUTE / 3);
    let inbox = inbox.migrate().await.unwrap();
    inbox.sweep(subscription).unwrap();
    let relay = outbox
        .relay()
        .bootstrap_servers(servers)
        .start()
        .await
        .unwrap();
    tokio::spawn(async move {
        loop {
            let mut transaction = pool.begin().await.unwrap();
            let task = NewTask::new("event").key("car");
            outbox.enqueue(&mut transaction, task).await.unwrap();
            transaction.commit().await.unwrap();
            outbox.wake();
            tokio::time::sleep(MINUTE / 3).await;
        }
    });
    relay
}

async fn attempt(directory: &Path, task: &Task<Bytes>) -> Result<(), TaskError> {
    // Work that waits, so that neighbours are in flight when the process dies.
    tokio::time::sleep(Duration::from_millis(5)).await;
    if directory.join(DOWN).exists() {
        return Err(TaskError::retryable(DOWN_SAYS));
    }
    match &task.payload()[..] {
        value if value == HANG.as_bytes() => {
            while directory.join(CLOSED).exists() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok(())
        }
        value if value == ABORT.as_bytes() => std::process::abort(),
        value if value == FATAL.as_bytes() => Err(TaskError::fatal("no retry will help")),
        value if value == FLAKY.as_bytes() && task.attempt() == 1 => {
            Err(TaskError::retryable("at first"))
        }
        _ => Ok(()),
    }
}
