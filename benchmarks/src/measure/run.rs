//! One run from its start to its sample.

use std::time::{Duration, Instant};

use super::job::Job;
use super::observer::Observer;
use super::sample::{Latency, Sample};
use super::usage::Usage;

pub(crate) struct Run {
    /// For good: threads that share an `Arc` would fight over its count.
    pub(crate) observer: &'static Observer,
    cpu_before: Duration,
    pending_mib: Option<f64>,
}

impl Run {
    /// To be called before the arm makes its consumer: joining the group counts as its work.
    pub(crate) fn start(job: &Job) -> Self {
        let observer = Box::leak(Box::new(Observer::new(job)));
        Self {
            observer,
            cpu_before: Usage::now().cpu,
            pending_mib: None,
        }
    }

    /// Waits until the run is over; where the memory of pending records is measured, until they are
    /// pending first. `pending` is their number.
    pub(crate) async fn over(&mut self, job: &Job, pending: impl Fn() -> usize) {
        if job.pending > 0 {
            self.pending_mib = pending_mib(job, pending).await;
            self.observer.release();
        }
        self.observer.over().await;
    }

    /// The sample, without what is only known once everything is committed.
    pub(crate) fn sample(&self, job: &Job, in_flight: impl Into<String>) -> Sample {
        let usage = Usage::now();
        let records = self.observer.done();
        let elapsed = self.observer.elapsed();
        let [duplicates, order_violations, overlaps] = self.observer.faults();
        let millis = |micros: u64| micros as f64 / 1_000.0;
        let latency =
            self.observer
                .latency
                .quantiles([0.5, 0.99, 0.999])
                .map(|[p50, p99, p999]| Latency {
                    p50: millis(p50),
                    p99: millis(p99),
                    p999: millis(p999),
                    max: millis(self.observer.latency.max_micros()),
                });
        Sample {
            records,
            complete: records >= job.needed,
            seconds: elapsed.as_secs_f64(),
            rate: records as f64 / elapsed.as_secs_f64().max(1e-9),
            cpu_micros: (usage.cpu - self.cpu_before).as_secs_f64() * 1e6 / records.max(1) as f64,
            peak_mib: mebibytes(usage.peak_bytes),
            threads: usage.threads,
            in_flight: in_flight.into(),
            attempt_micros: self.observer.attempt_micros(),
            latency,
            committed_seconds: None,
            duplicates,
            order_violations,
            overlaps,
            pending_mib: self.pending_mib,
        }
    }

    /// Since the first record was seen.
    pub(crate) fn since_first(&self) -> Duration {
        self.observer
            .first()
            .map_or(Duration::ZERO, |first| first.elapsed())
    }
}

/// What is resident once this many are pending.
async fn pending_mib(job: &Job, pending: impl Fn() -> usize) -> Option<f64> {
    let deadline = Instant::now() + Duration::from_secs(job.max_seconds);
    while pending() < job.pending {
        if Instant::now() >= deadline {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Some(mebibytes(Usage::now().resident_bytes))
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}
