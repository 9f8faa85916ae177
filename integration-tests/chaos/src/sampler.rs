//! Looks at the group's commits all the time.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use keylane_integration_tests::{
    claims::Claim,
    kafka::{HarnessError, Kafka},
};

use crate::{
    clock::now,
    evidence::{Sample, Source},
    settings::Topics,
};

const INTERVAL: Duration = Duration::from_millis(500);
const FIRST_COMMIT: Duration = Duration::from_secs(60);

/// A position, and the runs that the metadata names above it.
type Claimed = (i64, Vec<(i64, i64)>);

/// What was read until now.
#[derive(Debug, Default)]
pub struct Sampler {
    /// The samples that differ from the one before.
    pub samples: Vec<Sample>,
    /// Metadata that could not be read.
    pub unreadable: Vec<String>,
    last: HashMap<(Source, i32), Claimed>,
}

impl Sampler {
    /// Looks until `stop`. What the brokers do not answer is left out: some of them are down now
    /// and then.
    pub async fn watch(&mut self, kafka: &Kafka, group: &str, topics: &Topics, stop: &AtomicBool) {
        while !stop.load(Ordering::SeqCst) {
            for source in [Source::Origin, Source::Retry] {
                let _ = self.look(kafka, group, topics, source).await;
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Looks until the group has committed something: it works.
    ///
    /// # Errors
    /// When that does not come within a minute.
    pub async fn first_commit(
        &mut self,
        kafka: &Kafka,
        group: &str,
        topics: &Topics,
    ) -> Result<(), HarnessError> {
        let began = Instant::now();
        loop {
            let looked = self.look(kafka, group, topics, Source::Origin).await;
            if self.samples.iter().any(|sample| sample.position > 0) {
                return Ok(());
            }
            if began.elapsed() >= FIRST_COMMIT {
                return Err(HarnessError::Deadline {
                    what: "the group had committed something".to_owned(),
                    after: FIRST_COMMIT,
                    last: format!("{looked:?}"),
                });
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Looks once.
    ///
    /// # Errors
    /// When the brokers do not answer.
    pub async fn look(
        &mut self,
        kafka: &Kafka,
        group: &str,
        topics: &Topics,
        source: Source,
    ) -> Result<(), HarnessError> {
        let topic = match source {
            Source::Origin => &topics.origin,
            Source::Retry => &topics.retry,
        };
        let committed = kafka.committed(group, topic).await?;
        // After the answer: its content had happened by then.
        let at = now();
        for committed in committed {
            match Claim::of(topic, &committed) {
                Ok(claim) => {
                    let ahead: Vec<_> = claim
                        .ahead
                        .ranges()
                        .map(|range| (range.first.get(), range.last.get()))
                        .collect();
                    let seen = (claim.position, ahead);
                    let key = (source, claim.partition);
                    if self.last.get(&key) != Some(&seen) {
                        let (position, ahead) = seen.clone();
                        self.samples.push(Sample {
                            at,
                            source,
                            partition: claim.partition,
                            position,
                            ahead,
                        });
                        self.last.insert(key, seen);
                    }
                }
                Err(error) => self
                    .unreadable
                    .push(format!("{topic}: {committed:?}: {error}")),
            }
        }
        Ok(())
    }
}
