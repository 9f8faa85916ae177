//! keylane with a processor that does nothing, or waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use keylane::{Raw, Subscription, Task, TaskError};
use tokio::sync::Notify;

use super::Job;
use crate::Failure;
use crate::sample::{Sample, Watch};

struct Progress {
    done: AtomicU64,
    first: std::sync::OnceLock<Instant>,
    all: Notify,
    records: u64,
}

pub(super) fn run(job: &Job) -> Result<Sample, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(job))
}

async fn measure(job: &Job) -> Result<Sample, Failure> {
    let progress = Arc::new(Progress {
        done: AtomicU64::new(0),
        first: std::sync::OnceLock::new(),
        all: Notify::new(),
        records: job.job_records,
    });
    let mut watch = Watch::start();
    let wait = Duration::from_millis(job.job_wait_millis);
    let builder = Subscription::builder(&job.group, &job.topic)
        .bootstrap_servers(&job.bootstrap_servers)
        .concurrency(job.job_concurrency);
    let counted = progress.clone();
    let subscription = builder
        .start(Raw, move |task: Task<bytes::Bytes>| {
            let progress = counted.clone();
            async move {
                progress.first.get_or_init(Instant::now);
                if !wait.is_zero() {
                    tokio::time::sleep(wait).await;
                }
                std::hint::black_box(task.payload());
                if progress.done.fetch_add(1, Ordering::Relaxed) + 1 == progress.records {
                    progress.all.notify_one();
                }
                Ok::<(), TaskError>(())
            }
        })
        .await?;
    progress.all.notified().await;
    if let Some(first) = progress.first.get() {
        watch.first_record(*first);
    }
    let sample = watch.finish(job.job_records);
    subscription.shutdown().await?;
    Ok(sample)
}
