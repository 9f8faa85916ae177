//! Starts a subscription from its settings.

use std::sync::Arc;
use std::time::Instant;

use keylane_core::Reset;

use super::error::StartError;
use super::handle::Subscription;
use super::membership;
use crate::control::{self, Acknowledging, Follower, Following, Skips};
use crate::dead_letter::Intake;
use crate::kafka::config::{ConsumerSettings, consumer_config, reader_config, side_client_config};
use crate::kafka::topics::{self, TopicError, TopicPlan, TopicReport};
use crate::kafka::{Client, Context, EndOffsets, Starts};
use crate::metrics::{SeriesName, SubscriptionMetrics};
use crate::polling::{OwnerFactory, PollLoop, PollSettings};
use crate::producer::raw::{self as producer, RawProducer};
use crate::producer::{PartitionCount, RecordWriter, TopicTarget};
use crate::runtime::{self, Runtime, Surroundings, Work};
use crate::status::{Control, ControlFeed, SharedLease, State, SubscriptionError};
use crate::trace::AttemptSpans;
use crate::{Decode, Processor, SubscriptionConfig, Success};

pub(super) async fn start<T, O, D, P>(
    config: SubscriptionConfig,
    decoder: D,
    processor: P,
) -> Result<Subscription, StartError>
where
    T: Send + 'static,
    O: Into<Success> + 'static,
    D: Decode<T>,
    P: Processor<T, O>,
{
    config.validate()?;
    let tokio = tokio::runtime::Handle::try_current()
        .map_err(|error| StartError::NoRuntime(error.to_string()))?;
    let config = Arc::new(config);
    let control = Control::new(config.shutdown_timeout)
        .of_group(&config.group)
        .named(config.label())
        .with_brokers(&config)
        .guarded_by(config.outage_guard())
        .limited_to(config.limits.max_in_flight)
        .steered_by(config.control_topic_name());
    let control = Arc::new(control);
    let name = SeriesName::claim(config.label());
    let metrics = Arc::new(SubscriptionMetrics::new(name.get()));
    let (client, runtime, settings, follower) = {
        let (config, control, metrics) = (config.clone(), control.clone(), metrics.clone());
        let name = name.get().clone();
        // librdkafka's calls block.
        tokio::task::spawn_blocking(move || connect(&config, name, &control, &metrics))
            .await
            .map_err(|error| StartError::Create(error.to_string()))??
    };
    let work = Arc::new(Work {
        decoder,
        processor,
        spans: AttemptSpans::new(&config),
    });
    let end_offsets = EndOffsets::new(runtime.side_config.clone());
    let open: OwnerFactory = Box::new(move |opening| {
        runtime::open::<T, O, D, P>(&tokio, runtime.clone(), work.clone(), opening)
    });
    let poll_loop = PollLoop::new(
        client,
        control.clone(),
        metrics,
        settings,
        end_offsets,
        open,
    );
    let follower = follower.map(|it| it.spawn(config.label())).transpose();
    let following = follower.map_err(|error| {
        StartError::Create(format!("cannot start the control topic's thread: {error}"))
    })?;
    spawn(&config, &control, name, poll_loop, following)?;
    let subscription = Subscription::new(control, config.shutdown_timeout);
    match config.wait_for_membership {
        Some(within) => membership::wait(subscription, within).await,
        None => Ok(subscription),
    }
}

/// Checks what the settings name, then creates the clients.
fn connect(
    config: &SubscriptionConfig,
    series_name: Arc<str>,
    control: &Arc<Control>,
    metrics: &Arc<SubscriptionMetrics>,
) -> Result<(Client, Arc<Runtime>, PollSettings, Option<Follower>), StartError> {
    let mut consumer_config = consumer_config(
        &ConsumerSettings {
            bootstrap_servers: config.bootstrap_servers.as_str(),
            group: &config.group,
            instance_id: config.instance_id.as_deref(),
            fetch_linger: config.fetch_linger,
        },
        config.kafka.as_map(),
    )?;
    let side_config = side_client_config(config.bootstrap_servers.as_str(), config.kafka.as_map())?;
    let retry_topic = config.retry_topic();
    let dead_letter_topic = config
        .dead_letter
        .as_ref()
        .map(|dead_letter| dead_letter.topic.clone());
    let control_topic = config.control_topic_name();
    let plan = TopicPlan {
        origins: &config.topics,
        retry: retry_topic.as_deref(),
        dead_letter: dead_letter_topic.as_deref(),
        control: control_topic.as_deref(),
        group: &config.group,
    };
    let report = topics::check(&side_config, &plan, config.startup_timeout)?;
    for warning in &report.warnings {
        tracing::warn!("{warning}");
    }
    let writes = retry_topic.is_some() || dead_letter_topic.is_some() || control_topic.is_some();
    let producer = match writes {
        true => Some(internal_producer(config, control)?),
        false => None,
    };
    // Before the member joins: it starts nothing that is paused.
    let follower = match (&control.feed, &producer) {
        (Some(feed), Some(producer)) => {
            let (control, producer) = (control.clone(), producer.clone());
            Some(follow(config, control, feed.clone(), producer, &report)?)
        }
        _ => None,
    };
    let topics: Vec<Arc<str>> = config
        .topics
        .iter()
        .map(|topic| topic.as_str().into())
        .collect();
    let retry = retry_topic.map(|name| target(&name, &report));
    let dead_letters = dead_letter_topic.map(|name| target(&name, &report));
    let settings = PollSettings {
        subscription: series_name,
        topics,
        retry_topic: retry.as_ref().map(|target| target.name.clone()),
        dead_letter_topic: dead_letters.as_ref().map(|target| target.name.clone()),
        intake: Intake::of(config),
        limits: config.limits,
        // The other half is the owner's: together they are the interval.
        commit_every: config.commit_interval / 2,
        drain_timeout: config.drain_timeout,
        watchdog: config.watchdog,
        reset: consumer_config.reset(),
        broker_assigns: consumer_config.broker_assigns(),
    };
    if settings.reset == Reset::Latest {
        // keylane looks for the end itself, and commits it. A client that jumps there would pass
        // over what a position outside of the log leaves unread, without a word.
        consumer_config.set("auto.offset.reset", "earliest");
    }
    let lease = Arc::new(SharedLease::new());
    let starts = Starts::new(settings.reset, report.answers_ids);
    let context = Context::new(control.clone(), metrics.clone(), lease.clone(), starts);
    if let Some(timeout) = consumer_config.get("session.timeout.ms") {
        context.set_session_timeout(timeout);
    }
    let names: Vec<&str> = settings
        .topics
        .iter()
        .chain(&settings.retry_topic)
        .map(|topic| &**topic)
        .collect();
    let client = Client::subscribe(&consumer_config, config.reading, context, &names)
        .map_err(StartError::Create)?;
    let surroundings = Surroundings {
        writer: producer.map(RecordWriter::Kafka),
        retry_topic: retry,
        dead_letter_topic: dead_letters,
        side_config,
        lease,
        observer: None,
        names_logs: report.answers_ids,
    };
    let runtime = Runtime::new(config, control.clone(), metrics.clone(), surroundings);
    Ok((client, Arc::new(runtime), settings, follower))
}

/// Checks the control topic, and reads it to its end.
fn follow(
    config: &SubscriptionConfig,
    control: Arc<Control>,
    feed: Arc<ControlFeed>,
    producer: RawProducer,
    report: &TopicReport,
) -> Result<Follower, StartError> {
    let topic = feed.topic().to_string();
    let partitions = report.partitions.get(&topic).copied();
    control::check(config, &topic, partitions, report.answers_ids)?;
    let name = config.instance_id.clone().unwrap_or_else(|| {
        let client = config.kafka.get("client.id").unwrap_or("keylane");
        format!("{client}-{:016x}", fastrand::u64(..))
    });
    let tokio = tokio::runtime::Handle::current();
    let acknowledging = Acknowledging::new(producer, tokio, &config.group, &topic, &name);
    let unreadable = |problem: String| TopicError::ControlTopic {
        name: topic.clone(),
        problem: format!(
            "cannot be read: {problem}; check it, and this client's permission to READ it"
        ),
    };
    let reader = reader_config(config.bootstrap_servers.as_str(), config.kafka.as_map())?;
    let mut follower = Follower::open(
        reader,
        report.answers_ids,
        control,
        feed,
        acknowledging,
        Skips::of(config),
    )
    .map_err(unreadable)?;
    follower
        .catch_up(config.startup_timeout)
        .map_err(unreadable)?;
    Ok(follower)
}

/// Records on their way to the retry and dead-letter topics at once, over all partitions. What
/// bounds their memory is `pending_bytes`; this bounds what the client adds to small ones.
const WRITES_AT_ONCE: usize = 100_000;

/// There is one writer for all partitions, so the limit of one partition would be too low. A write
/// that is refused because the queue is full has failed. In a drain its record is handed back, and
/// runs again at the next owner.
fn internal_producer(
    config: &SubscriptionConfig,
    control: &Arc<Control>,
) -> Result<RawProducer, StartError> {
    let records = config.limits.pause_at_records.max(WRITES_AT_ONCE);
    let limits = producer::PendingLimits {
        records,
        bytes: config.limits.pending_bytes,
    };
    let control = control.clone();
    let on_panic = move |text: &str| {
        control.fail(SubscriptionError::Internal(format!(
            "the producer's thread panicked: {text}"
        )));
    };
    Ok(RawProducer::start(
        config.bootstrap_servers.as_str(),
        config.kafka.as_map(),
        limits,
        Arc::new(on_panic),
    )?)
}

fn target(name: &str, report: &TopicReport) -> TopicTarget {
    let count = report.partitions.get(name).copied().unwrap_or(1);
    TopicTarget {
        name: name.into(),
        partitions: PartitionCount::new(count, Instant::now()),
    }
}

/// Starts the polling thread. Whatever ends it, the subscription ends with it (guarantee G9).
fn spawn(
    config: &SubscriptionConfig,
    control: &Arc<Control>,
    series_name: SeriesName,
    poll_loop: PollLoop,
    following: Option<Following>,
) -> Result<(), StartError> {
    let ended = End(control.clone());
    std::thread::Builder::new()
        .name(format!("keylane-poll-{}", config.label()))
        .spawn(move || {
            let ended = ended;
            poll_loop.run();
            if let Some(following) = following {
                following.end();
            }
            // The next subscription may have it as soon as this one is seen to have ended.
            drop(series_name);
            drop(ended);
        })
        .map(drop)
        .map_err(|error| StartError::Create(format!("cannot start the polling thread: {error}")))
}

struct End(Arc<Control>);

impl Drop for End {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(SubscriptionError::Internal(
                "the polling thread panicked; the panic message has the place".into(),
            ));
            self.0.set_state(State::Failed);
        }
        self.0.set_ended();
    }
}
