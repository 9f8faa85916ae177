//! Vehicles enter and leave a car park; keylane turns the events into push notifications.
//!
//! Read [`processor`] first: that is what you would write yourself. [`run`] below is how it is put
//! to work. Everything else is the world around it: a [producer](enqueue), a [push
//! gateway](gateway) with its moods, some planned [trouble], and an [audit] of the result from the
//! far ends.

mod args;
mod audit;
mod bug;
mod cluster;
mod dead_letters;
mod dice;
mod enqueue;
mod event;
mod gateway;
mod interrupt;
mod names;
mod plan;
mod processor;
mod progress;
mod push;
mod report;
mod scrape;
mod tally;
mod trouble;

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use keylane::config::{Backoff, Exhausted, FailureReason};
use keylane::error::TaskProducerError;
use keylane::subscription::SubscriptionBuilder;
use keylane::{DeadLetter, Json, Raw, Retry, Subscription, TaskProducer};
use keylane_admin::{AdminServer, AdminServerBuilder};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use args::Args;
use bug::Bug;
use cluster::Cluster;
use dead_letters::{DeadLetters, Reader};
use gateway::Gateway;
use plan::Plan;
use processor::Notifier;
use push::PushClient;
use report::{Ended, Report};
use scrape::Settled;
use tally::Tally;
use trouble::{RETRIES, Trouble};

/// Longer than any back-off of the example and than Kafka waits for a group member that has
/// vanished.
const PATIENCE: Duration = Duration::from_secs(60);
/// For what must be quick once the work is over.
const WIND_UP: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    // Failed attempts and dead letters are this example's daily bread: RUST_LOG=keylane=info shows
    // them.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    bug::print_only_other_panics();

    let interrupt = interrupt::token();
    match run(&args, &interrupt).await {
        Ok((report, admin)) => {
            print!("{report}");
            if args.linger && !interrupt.is_cancelled() {
                eprintln!(
                    "still serving http://{}/metrics and http://{}/v1/subscriptions until Ctrl-C",
                    report.metrics,
                    admin.local_addr()
                );
                interrupt.cancelled().await;
            }
            admin.shutdown().await;
            if report.passed() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("error: {}", with_causes(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn run(
    args: &Args,
    interrupt: &CancellationToken,
) -> Result<(Report, AdminServer), Box<dyn Error + Send + Sync>> {
    args.validate()?;
    let names = args.names();
    let metrics = keylane::metrics::serve_prometheus(args.metrics_addr)?;
    // Before the subscriptions, so that it can report that they have not started yet.
    let scraped = metrics.handle().clone();
    let admin = admin_server(args)
        .metrics(move || scraped.render())
        .start()?;
    let cluster = Cluster::start(args, &names).await?;
    let trouble = Trouble::new(args.seed);
    let plan = Arc::new(plan(args, trouble)?);
    let tally = Arc::new(Tally::default());
    let gateway = Gateway::start(
        plan.run(),
        plan.registered_devices(),
        trouble,
        tally.clone(),
    )
    .await?;
    let bug = Bug::new(trouble, plan.run());
    let dead_letters = DeadLetters::new(plan.run(), tally.clone());

    let notifier = subscription(&cluster, &names.group, &names.events)
        .concurrency(args.concurrency as usize)
        // In place: the vehicle waits, so its order is kept. By count, since the audit counts
        // attempts; a service of yours is better off with `Retry::for_at_least`. What panics each
        // time is a bug here and no outage: it is not held.
        .retry(
            Retry::in_place(RETRIES)
                .backoff(Backoff::exponential(
                    Duration::from_millis(100),
                    Duration::from_secs(5),
                ))
                .on(FailureReason::Panic, Exhausted::DeadLetter),
        )
        .dead_letter(DeadLetter::topic(&names.dead_letters))
        .start(
            Json,
            Notifier {
                gateway: PushClient::new(gateway.address())?,
                bug: bug.clone(),
            },
        )
        .await?;
    // One at a time, because it looks for the end of each partition.
    let audit = subscription(&cluster, &names.audit_group, &names.dead_letters)
        .concurrency(1)
        .start(Raw, Reader(dead_letters.clone()))
        .await?;
    for subscription in [&notifier, &audit] {
        admin.add(subscription.handle())?;
    }
    eprintln!(
        "admin       http://{}/v1/subscriptions (while this runs)",
        admin.local_addr()
    );

    let stop_enqueuing = interrupt.child_token();
    let enqueuing = {
        let (plan, tally, stop) = (plan.clone(), tally.clone(), stop_enqueuing.clone());
        let producer = producer(&cluster, &names.events).await?;
        let rate = args.rate;
        tokio::spawn(async move {
            let written = enqueue::enqueue(&producer, &plan, rate, &tally, &stop).await;
            (written, producer.close(WIND_UP).await)
        })
    };

    let mut ended = Ended::Interrupted;
    let all_enqueued = || enqueuing.is_finished();
    let watching = progress::watch(
        &tally,
        args.events.into(),
        all_enqueued,
        interrupt,
        PATIENCE,
    );
    // Until all is done, or Ctrl-C or SIGTERM comes: then what has started is finished, and
    // committed, before this returns.
    let ran = notifier.run_until(async { ended = watching.await }).await;
    if let Err(error) = ran {
        ended = Ended::Failed(error.to_string());
    }
    let elapsed = tally.since_first_done();

    stop_enqueuing.cancel();
    let (written, closed) = enqueuing.await?;
    let mut faults: Vec<String> = closed.err().iter().map(ToString::to_string).collect();
    let fences = producer(&cluster, &names.dead_letters).await?;
    if let Err(error) = dead_letters
        .read_to_the_end(&fences, &written.partitions(), WIND_UP)
        .await
    {
        faults.push(format!(
            "the dead-letter topic was not read to its end: {error}"
        ));
    }
    faults.extend(
        fences
            .close(WIND_UP)
            .await
            .err()
            .iter()
            .map(ToString::to_string),
    );
    faults.extend(audit.shutdown().await.err().iter().map(ToString::to_string));
    faults.extend(tokio::task::block_in_place(|| cluster.dropped_unread()));
    let journal = gateway.journal();
    let report = Report {
        seed: args.seed,
        ended,
        elapsed,
        planned: plan.totals(trouble, written.answers.len()),
        outcome: audit::audit(
            &names,
            &plan,
            &written,
            &journal.of_run(plan.run()),
            &dead_letters.read(),
        ),
        settled: Settled::read(&metrics.handle().render(), &names.group),
        panics: bug.struck(),
        requests_of_other_runs: journal.of_other_runs(plan.run()),
        faults,
        metrics: metrics.local_addr(),
    };
    Ok((report, admin))
}

fn plan(args: &Args, trouble: Trouble) -> Result<Plan, Box<dyn Error + Send + Sync>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(Plan::new(
        trouble,
        args.vehicles as usize,
        args.events as usize,
        args.seed,
        now.as_millis() as u64,
    ))
}

fn admin_server(args: &Args) -> AdminServerBuilder {
    let server = AdminServer::builder().address(args.admin_addr);
    match std::env::var("ADMIN_TOKEN") {
        Ok(token) => server.token(token),
        Err(_) => server,
    }
}

fn subscription(cluster: &Cluster, group: &str, topic: &str) -> SubscriptionBuilder {
    Subscription::builder(group, topic)
        .bootstrap_servers(cluster.bootstrap_servers())
        .kafka_settings(cluster.consumer_settings())
}

async fn producer(cluster: &Cluster, topic: &str) -> Result<TaskProducer, TaskProducerError> {
    TaskProducer::builder(topic)
        .bootstrap_servers(cluster.bootstrap_servers())
        .kafka_settings(cluster.producer_settings())
        .application_id("car-park")
        .start()
        .await
}

/// The error and its causes. Some messages contain their cause, which is then not repeated.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text.push_str(&format!(": {message}"));
        }
        cause = error.source();
    }
    text
}
