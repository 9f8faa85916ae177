//! The member that is scraped: records and two files tell it what goes wrong.

use std::{
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use keylane::http::AdminServer;
use keylane::{Backoff, DeadLetter, Raw, Retry, Subscription, Task, TaskError, Watchdog};

use super::rules::MINUTE;

/// What the variables of a member begin with.
pub(crate) const VARIABLE: &str = "KEYLANE_OPERATIONS_";
/// While it is there, every attempt fails.
pub(crate) const DOWN: &str = "downstream-is-down";
/// The error of each.
pub(crate) const DOWN_SAYS: &str = "the downstream is down";
/// While it is there, [`HANG`] hangs.
pub(crate) const CLOSED: &str = "gate-is-closed";

/// Values of records that do something else than succeed.
pub(crate) const HANG: &str = "hang";
pub(crate) const ABORT: &str = "abort";
pub(crate) const FATAL: &str = "fatal";
pub(crate) const FLAKY: &str = "flaky";

pub(crate) async fn run() {
    let variable = |name: &str| std::env::var(format!("{VARIABLE}{name}")).ok();
    let (Some(servers), Some(topic), Some(group), Some(metrics), Some(admin), Some(directory), Some(name)) = (
        variable("SERVERS"),
        variable("TOPIC"),
        variable("GROUP"),
        variable("METRICS"),
        variable("ADMIN"),
        variable("DIRECTORY"),
        variable("MEMBER"),
    ) else {
        return;
    };
    let level = tracing_subscriber::EnvFilter::new("keylane=info");
    tracing_subscriber::fmt().with_env_filter(level).with_ansi(false).with_writer(std::io::stderr).init();
    let address = |text: String| text.parse::<std::net::SocketAddr>().unwrap();
    keylane::metrics::serve_prometheus(address(metrics)).unwrap();
    let directory = PathBuf::from(directory);
    let process = move |task: Task<Bytes>| {
        let directory = directory.clone();
        async move { attempt(&directory, &task).await }
    };
    let subscription = Subscription::builder(&group, &topic)
        .bootstrap_servers(servers)
        .startup_timeout(Duration::from_secs(60))
        .concurrency(16)
        .commit_interval(Duration::from_millis(500))
        .drain_timeout(Duration::from_secs(2))
        .retry(Retry::in_place(3).backoff(Backoff::exponential(Duration::from_millis(100), Duration::from_millis(500))))
        .dead_letter(DeadLetter::topic(format!("{topic}-dead")))
        .watchdog(Watchdog::default().slow_attempt(MINUTE / 2).stalled_after(MINUTE))
        // Its place is free at once when it starts again after a crash.
        .kafka("group.instance.id", name)
        .kafka("session.timeout.ms", "6000")
        .kafka("heartbeat.interval.ms", "500")
        // A twentieth of the default, as a minute is here: how often the brokers are tried in vain is what a rule counts.
        .kafka("reconnect.backoff.max.ms", "500")
        .start(Raw, process)
        .await
        .unwrap();
    let _admin = AdminServer::builder().address(address(admin)).subscription(subscription.handle()).start().unwrap();
    let end_of_input =
        tokio::task::spawn_blocking(|| while std::io::stdin().read(&mut [0; 64]).is_ok_and(|read| read > 0) {});
    subscription.run_until(end_of_input).await.unwrap();
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
        value if value == FLAKY.as_bytes() && task.attempt() == 1 => Err(TaskError::retryable("at first")),
        _ => Ok(()),
    }
}
