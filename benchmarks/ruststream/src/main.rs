//! The arm "ruststream": ruststream-rdkafka with workers keyed by the record's key. Its only
//! argument is the job as JSON; it prints the sample.

#[path = "../../src/arms/committed.rs"]
mod committed;
// Made for all arms; this one does not use all of it.
#[allow(dead_code, unused_imports)]
#[path = "../../src/measure/mod.rs"]
mod measure;

use std::convert::Infallible;
use std::num::NonZeroUsize;

use ruststream::Field;
use ruststream_rdkafka::context::KafkaContext;
use ruststream_rdkafka::prelude::*;

use measure::{Failure, Job, Observer, Outcome, RETRY_DELAY, Run, Seen};

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let job: Job = serde_json::from_str(&std::env::args().nth(1).ok_or("the job is missing")?)?;
    let mut run = Run::start(&job);
    let broker = KafkaBroker::new([job.bootstrap_servers.as_str()]);
    let source = KafkaTopic::new(job.topic.as_str())
        .group(job.group.as_str())
        .start(StartOffset::Earliest)
        .commit(Commit::Tracked)
        .lane_key(LaneKey::RecordKey)
        .config("auto.commit.interval.ms", "1000")
        .config("fetch.message.max.bytes", "262144")
        .config("queued.min.messages", "5000")
        .config("fetch.queue.backoff.ms", "5")
        .config("fetch.wait.max.ms", "100");
    let workers = NonZeroUsize::new(job.lanes).unwrap_or(NonZeroUsize::MIN);
    let work = Work { observer: run.observer };
    let service = RustStream::new(AppInfo::new("benchmark", "0.1.0")).with_broker(broker, move |b| {
        b.include(subscriber("benchmark", work).map_source(move |_| source).workers_by_key(workers).build());
    });
    let running = service.start().await?;
    run.over(&job, || 0).await;
    let mut sample = run.sample(&job, format!("{workers} workers"));
    tokio::task::block_in_place(|| committed::note(&job, &run, &mut sample, || {}))?;
    println!("{}", serde_json::to_string(&sample)?);
    // What is stuck is not waited for.
    drop(running);
    std::process::exit(0)
}

/// The value's bytes as they are.
struct Value<'a>(&'a [u8]);

impl Deserialized for Value<'_> {
    type Output<'a> = Value<'a>;
    type Error = Infallible;

    fn from_payload(payload: &[u8]) -> Result<Value<'_>, Self::Error> {
        Ok(Value(payload))
    }
}

impl Input for Value<'_> {
    type Axis = SoloDeserialized<Value<'static>>;
}

/// Everything the delivery carries.
#[derive(Clone, Copy)]
struct Delivery;

impl Field<KafkaContext> for Delivery {
    type Value<'a> = &'a KafkaContext;

    fn get(self, delivery: &KafkaContext) -> &KafkaContext {
        delivery
    }
}

struct Work {
    observer: &'static Observer,
}

impl<'p> Handle<Value<'p>, (), (), KafkaContext> for Work {
    async fn handle(
        &self,
        value: &Value<'p>,
        _outs: &(),
        context: &mut Context<'_, KafkaContext>,
    ) -> Result<(), HandlerOutcome> {
        let record = context.context(Delivery);
        let seen = Seen::new(record.partition(), record.offset(), record.key(), Some(value.0));
        let mut attempt = 1;
        while self.observer.attempt(seen.attempt(attempt)).await == Outcome::Failed {
            tokio::time::sleep(RETRY_DELAY).await;
            attempt += 1;
        }
        Ok(())
    }
}
