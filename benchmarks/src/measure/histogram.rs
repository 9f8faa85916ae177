//! A histogram of durations that many threads add to: buckets grow with the value, 1/64 wide.

use std::sync::atomic::{AtomicU64, Ordering};

const SUB_BITS: u32 = 6;
const SUBS: usize = 1 << SUB_BITS;
/// Up to 2^36 µs, about 19 hours.
const BUCKETS: usize = SUBS * 31;

pub(crate) struct Histogram {
    buckets: Box<[AtomicU64]>,
    max_micros: AtomicU64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self {
            buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            max_micros: AtomicU64::new(0),
        }
    }

    pub(crate) fn add(&self, micros: u64) {
        self.buckets[bucket(micros).min(BUCKETS - 1)].fetch_add(1, Ordering::Relaxed);
        self.max_micros.fetch_max(micros, Ordering::Relaxed);
    }

    /// The values, in microseconds, at or below which these fractions of the samples lie; none
    /// without samples.
    pub(crate) fn quantiles<const N: usize>(&self, fractions: [f64; N]) -> Option<[u64; N]> {
        let counts: Vec<u64> = self
            .buckets
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .collect();
        let total: u64 = counts.iter().sum();
        let at = |fraction: f64| {
            let rank = ((total as f64 * fraction).ceil() as u64).max(1);
            let mut seen = 0;
            counts.iter().position(|count| {
                seen += count;
                seen >= rank
            })
        };
        let max = self.max_micros.load(Ordering::Relaxed);
        (total > 0).then(|| {
            fractions.map(|fraction| at(fraction).map_or(max, |index| upper(index).min(max)))
        })
    }

    pub(crate) fn max_micros(&self) -> u64 {
        self.max_micros.load(Ordering::Relaxed)
    }
}

fn bucket(micros: u64) -> usize {
    let power = (u64::BITS - 1 - micros.max(1).leading_zeros()).max(SUB_BITS) - SUB_BITS;
    (micros >> power) as usize + power as usize * SUBS
}

/// The largest value of a bucket.
fn upper(index: usize) -> u64 {
    let power = (index / SUBS).saturating_sub(1);
    let sub = index - power * SUBS;
    ((sub as u64 + 1) << power) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket_and_within_two_percent_of_its_end() {
        for micros in (0..5_000).chain((0..1_000).map(|step| step * 77_777)) {
            let end = upper(bucket(micros));
            assert!(
                end >= micros && end - micros <= micros / 50 + 1,
                "{micros} {end}"
            );
        }
    }

    #[test]
    fn quantiles_of_a_thousand_values() {
        let histogram = Histogram::new();
        assert_eq!(histogram.quantiles([0.5]), None);
        (1..=1_000).for_each(|micros| histogram.add(micros));
        let [median, high, last] = histogram.quantiles([0.5, 0.99, 1.0]).unwrap();
        assert!(
            (495..=510).contains(&median) && (985..=1_000).contains(&high),
            "{median} {high}"
        );
        assert_eq!(last, 1_000);
    }
}
