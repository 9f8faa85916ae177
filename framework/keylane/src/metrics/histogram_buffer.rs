//! A histogram that is filled by one owner and handed to the recorder once per pass.
//!
//! `metrics::Histogram::record` is made for a few samples a second: `metrics-exporter-prometheus`
//! 0.18 reads the clock and appends every sample to a list, 16 bytes each, until the next upkeep
//! sorts them into buckets. `record_many` does not help: the exporter's handle does not implement
//! it, and the default is a loop. Three histograms at a million records a second would cost several
//! times the record's own budget, and hundreds of megabytes between two upkeeps.
//!
//! So the owner sorts durations into the histogram's own buckets (an array, no atomics), and once
//! per pass each bucket goes out as one `record_many(mean, count)`. The mean of a bucket lies in
//! that bucket, and the sum is kept, so nothing is lost for a recorder with the same bounds. What
//! happens then depends on the recorder:
//! - keylane's own Prometheus recorder takes a count in one step: exact, whatever the rate;
//! - any other is handed at most about [`MAX_SAMPLES`] samples for each histogram and pass. Below
//!   that every sample arrives. Above it they are thinned out in proportion, and the share of a
//!   rare bucket is saved up until it makes a sample. Quantiles and means stay right, `_count`
//!   becomes too low: rates are read from the counters.

use std::cell::Cell;
use std::time::Duration;

use ::metrics::Histogram;

/// Samples for each flush to a recorder that takes them one by one.
pub(super) const MAX_SAMPLES: u64 = 8;

#[derive(Debug)]
pub(super) struct HistogramBuffer {
    handle: Histogram,
    takes_counts: bool,
    bounds: &'static [f64],
    /// Made with the first duration: of a thousand partitions most may have none.
    buckets: Box<[Bucket]>,
    /// The bucket of the last duration.
    last: usize,
    len: u64,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// The smallest and the largest duration that belong here, in nanoseconds.
    from: u64,
    bound: u64,
    count: u64,
    /// In nanoseconds, as integers: a mean of floats could round out of its bucket.
    sum: u64,
    /// Parts of a sample that are still due to a recorder that is handed a selection.
    due: f64,
}

impl HistogramBuffer {
    /// `bounds` are ascending seconds, as in the table of metrics.
    pub(super) fn new(handle: Histogram, bounds: &'static [f64]) -> Self {
        let takes_counts = takes_counts(&handle);
        Self {
            takes_counts,
            handle,
            bounds,
            buckets: Box::default(),
            last: 0,
            len: 0,
        }
    }

    pub(super) fn set_handle(&mut self, handle: Histogram) {
        self.takes_counts = takes_counts(&handle);
        self.handle = handle;
    }

    /// Where records come fast enough for this to matter, one lasts about as long as the one before
    /// it.
    #[inline]
    pub(super) fn record(&mut self, time: Duration) {
        let nanos = time
            .as_secs()
            .saturating_mul(1_000_000_000)
            .saturating_add(u64::from(time.subsec_nanos()));
        if !self
            .buckets
            .get(self.last)
            .is_some_and(|bucket| bucket.from <= nanos && nanos <= bucket.bound)
        {
            self.last = self.find(nanos);
        }
        // The last bound is the largest number.
        if let Some(bucket) = self.buckets.get_mut(self.last) {
            bucket.count += 1;
            bucket.sum = bucket.sum.saturating_add(nanos);
            self.len += 1;
        }
    }

    fn find(&mut self, nanos: u64) -> usize {
        if self.buckets.is_empty() {
            self.buckets = buckets(self.bounds);
        }
        self.buckets.partition_point(|bucket| bucket.bound < nanos)
    }

    #[inline]
    pub(super) fn flush(&mut self) {
        if self.len > 0 {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        let share = if self.takes_counts {
            1.0
        } else {
            (MAX_SAMPLES as f64 / self.len as f64).min(1.0)
        };
        for bucket in self.buckets.iter_mut().filter(|bucket| bucket.count > 0) {
            let samples = if share < 1.0 {
                bucket.take_due(share)
            } else {
                bucket.count
            };
            if samples > 0 {
                // Rounded down to a nanosecond, so never above the largest value.
                let mean = (bucket.sum / bucket.count) as f64 / 1e9;
                self.handle
                    .record_many(mean, usize::try_from(samples).unwrap_or(usize::MAX));
            }
            bucket.count = 0;
            bucket.sum = 0;
        }
        self.len = 0;
    }
}

fn buckets(bounds: &[f64]) -> Box<[Bucket]> {
    let bounds = bounds
        .iter()
        .map(|bound| (bound * 1e9).round() as u64)
        .chain([u64::MAX]);
    let mut next = 0;
    let bucket = |bound: u64| {
        let from = std::mem::replace(&mut next, bound.saturating_add(1));
        Bucket {
            from,
            bound,
            count: 0,
            sum: 0,
            due: 0.0,
        }
    };
    bounds.map(bucket).collect()
}

impl Bucket {
    fn take_due(&mut self, share: f64) -> u64 {
        self.due += self.count as f64 * share;
        let whole = self.due.floor();
        self.due -= whole;
        whole as u64
    }
}

thread_local! {
    static ANSWERED: Cell<bool> = const { Cell::new(false) };
}

/// Whether `record_many` reaches the recorder as one call. The probe has a count of 0, which has no
/// effect in any recorder; ours answers on this thread. If a recorder in between splits the call (a
/// fan-out, a filter), the answer is no.
fn takes_counts(handle: &Histogram) -> bool {
    ANSWERED.set(false);
    handle.record_many(0.0, 0);
    ANSWERED.take()
}

/// Called by a recorder that takes counts, when it gets a value with the count 0.
#[cfg(any(test, feature = "prometheus"))]
pub(super) fn answer_takes_counts() {
    ANSWERED.set(true);
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use ::metrics::HistogramFn;

    use super::*;

    const BOUNDS: &[f64] = &[0.001, 0.01, 0.1];

    /// Keeps the calls; with `counts` it takes a count in one step.
    #[derive(Default)]
    struct Recorded {
        counts: bool,
        calls: Mutex<Vec<(f64, usize)>>,
    }

    impl HistogramFn for Recorded {
        fn record(&self, value: f64) {
            self.calls.lock().unwrap().push((value, 1));
        }

        fn record_many(&self, value: f64, count: usize) {
            if !self.counts {
                (0..count).for_each(|_| self.record(value));
            } else if count == 0 {
                answer_takes_counts();
            } else {
                self.calls.lock().unwrap().push((value, count));
            }
        }
    }

    fn buffer(counts: bool) -> (HistogramBuffer, Arc<Recorded>) {
        let recorded = Arc::new(Recorded {
            counts,
            ..Recorded::default()
        });
        (
            HistogramBuffer::new(Histogram::from_arc(recorded.clone()), BOUNDS),
            recorded,
        )
    }

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_bucket_is_one_call_with_its_mean_and_count() {
        let (mut buffer, recorded) = buffer(true);
        for time in [millis(2), millis(4), millis(500)] {
            buffer.record(time);
        }
        buffer.flush();
        buffer.flush();
        assert_eq!(*recorded.calls.lock().unwrap(), [(0.003, 2), (0.5, 1)]);
    }

    #[test]
    fn a_value_on_a_bound_stays_in_its_bucket_however_often_it_comes() {
        let (mut buffer, recorded) = buffer(true);
        for bound in BOUNDS {
            for _ in 0..1009 {
                buffer.record(Duration::from_secs_f64(*bound));
            }
        }
        buffer.flush();
        let calls = recorded.calls.lock().unwrap();
        assert_eq!(
            *calls,
            BOUNDS
                .iter()
                .map(|bound| (*bound, 1009))
                .collect::<Vec<_>>()
        );
    }

    #[test]
    fn the_longest_duration_is_no_overflow() {
        let (mut buffer, recorded) = buffer(true);
        buffer.record(Duration::MAX);
        buffer.record(Duration::MAX);
        buffer.flush();
        assert_eq!(recorded.calls.lock().unwrap()[0].1, 2);
    }

    #[test]
    fn a_recorder_of_single_samples_gets_all_of_a_short_turn() {
        let (mut buffer, recorded) = buffer(false);
        (0..MAX_SAMPLES).for_each(|_| buffer.record(millis(2)));
        buffer.flush();
        assert_eq!(recorded.calls.lock().unwrap().len() as u64, MAX_SAMPLES);
    }

    #[test]
    fn a_recorder_of_single_samples_gets_a_bounded_selection_in_which_the_tail_has_its_share() {
        let (mut buffer, recorded) = buffer(false);
        for _turn in 0..1000 {
            (0..990).for_each(|_| buffer.record(millis(2)));
            (0..10).for_each(|_| buffer.record(millis(50)));
            buffer.flush();
        }
        let calls = recorded.calls.lock().unwrap();
        let tail = calls.iter().filter(|(value, _)| *value == 0.05).count();
        assert!(
            (7900..=8000).contains(&calls.len()),
            "{} samples",
            calls.len()
        );
        assert!(
            (79..=80).contains(&tail),
            "{tail} samples of the slow hundredth"
        );
    }

    #[test]
    fn a_recorder_is_asked_again_when_the_handle_changes() {
        let (mut buffer, _) = buffer(false);
        assert!(!buffer.takes_counts);
        buffer.set_handle(Histogram::from_arc(Arc::new(Recorded {
            counts: true,
            ..Recorded::default()
        })));
        assert!(buffer.takes_counts);
        buffer.set_handle(Histogram::noop());
        assert!(!buffer.takes_counts);
    }
}
