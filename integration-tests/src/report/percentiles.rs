//! Percentiles of all samples: nothing is thrown together in buckets.

use serde::Serialize;

/// Percentiles of latencies, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Percentiles {
    /// How many there were.
    pub count: usize,
    /// Half of them were not above this.
    pub p50_ms: f64,
    /// 99 of 100 were not above this.
    pub p99_ms: f64,
    /// 999 of 1,000 were not above this.
    pub p999_ms: f64,
    /// None was above this.
    pub max_ms: f64,
}

impl Percentiles {
    /// Of latencies in microseconds, in any order; `None` where there are none.
    pub fn of(micros: impl IntoIterator<Item = u64>) -> Option<Self> {
        let mut sorted: Vec<u64> = micros.into_iter().collect();
        sorted.sort_unstable();
        let at = |fraction: f64| {
            let rank = (fraction * sorted.len() as f64).ceil().max(1.0) as usize;
            sorted.get(rank - 1).map(|micros| *micros as f64 / 1_000.0)
        };
        Some(Self {
            count: sorted.len(),
            p50_ms: at(0.5)?,
            p99_ms: at(0.99)?,
            p999_ms: at(0.999)?,
            max_ms: at(1.0)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Percentiles;

    #[test]
    fn a_percentile_is_the_smallest_sample_that_enough_are_not_above() {
        let found = Percentiles::of((1..=1_000).rev().map(|micros| micros * 1_000)).unwrap();
        assert_eq!(
            (found.p50_ms, found.p99_ms, found.p999_ms, found.max_ms),
            (500.0, 990.0, 999.0, 1_000.0)
        );
        assert_eq!(Percentiles::of([7_000]).unwrap().p50_ms, 7.0);
        assert_eq!(Percentiles::of([]), None);
    }
}
