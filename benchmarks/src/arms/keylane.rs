//! keylane, with everything at its defaults but what the scenario says.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use keylane::config::{Backoff, Limits, Reading};
use keylane::{Raw, Retry, Subscription, SubscriptionHandle, Task, TaskError};

use super::committed;
use crate::measure::{Failure, Job, Outcome, RETRY_DELAY, Run, Sample, Seen};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Variant {
    Plain,
    Metrics,
    Traced,
    Polled,
    Pool,
}

pub(super) fn run(job: &Job, variant: Variant) -> Result<Sample, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(measure(job, variant))
}

async fn measure(job: &Job, variant: Variant) -> Result<Sample, Failure> {
    let mut run = Run::start(job);
    if variant == Variant::Metrics {
        scrape(keylane::metrics::serve_prometheus(0)?.local_addr())?;
    }
    if variant == Variant::Traced {
        // Spans are at level info; lines go nowhere.
        tracing_subscriber::fmt().with_writer(std::io::sink).init();
    }
    let mut builder = Subscription::builder(&job.group, &job.topic)
        .bootstrap_servers(&job.bootstrap_servers)
        .retry(Retry::forever().backoff(Backoff::fixed(RETRY_DELAY).jitter(0.0)));
    if variant == Variant::Polled {
        builder = builder.reading(Reading::Polled);
    }
    builder = match variant {
        // As many in each partition as a subscription without `concurrency` has.
        Variant::Pool => builder.max_in_flight(job.in_flight_total),
        _ => builder.concurrency(job.in_flight_per_partition),
    };
    if job.pending > 0 {
        let room = job.pending * 2;
        builder = builder.limits(
            Limits::default()
                .pause_at_records(room)
                .resume_at_records(room / 2)
                .pending_bytes(room * job.record_bytes * 2),
        );
    }
    let observer = run.observer;
    let subscription = builder
        .start(Raw, move |task: Task<Bytes>| async move {
            let seen = Seen::new(
                task.partition(),
                task.offset(),
                task.key(),
                Some(task.payload()),
            );
            match observer.attempt(seen.attempt(task.attempt())).await {
                Outcome::Done => Ok(()),
                Outcome::Failed => Err(TaskError::retryable("the benchmark says so")),
            }
        })
        .await?;
    let handle = subscription.handle();
    run.over(job, || pending(&handle)).await;
    let limit = match variant {
        Variant::Pool => format!("{} in all", job.in_flight_total),
        _ => format!("{} per partition", job.in_flight_per_partition),
    };
    let mut sample = run.sample(job, limit);
    tokio::task::block_in_place(|| committed::note(job, &run, &mut sample, || {}))?;
    // What is stuck is not waited for.
    subscription
        .shutdown_within(Duration::from_millis(100))
        .await?;
    Ok(sample)
}

fn pending(handle: &SubscriptionHandle) -> usize {
    handle
        .status()
        .partitions
        .iter()
        .map(|partition| partition.snapshot.pending as usize)
        .sum()
}

/// Scrapes once a second, as Prometheus does at its busiest.
fn scrape(address: SocketAddr) -> std::io::Result<()> {
    let scrape = move || -> std::io::Result<usize> {
        let mut stream = TcpStream::connect(address)?;
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        stream.read_to_end(&mut Vec::new())
    };
    std::thread::Builder::new()
        .name("scrape".into())
        .spawn(move || {
            loop {
                if let Err(error) = scrape() {
                    eprintln!("the metrics could not be scraped: {error}");
                }
                std::thread::sleep(Duration::from_secs(1));
            }
        })?;
    Ok(())
}
