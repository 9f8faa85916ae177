//! Which keys a partition spends itself on: the heaviest of any number of keys, in bounded memory.
//!
//! One [`KeySketch`] has one measure: the keys with the most records, with the most time in
//! attempts, or with the longest waits. It is Space-Saving (Metwally, Agrawal, El Abbadi: Efficient
//! Computation of Frequent and Top-k Elements in Data Streams, 2005) with weights. A sampler in
//! front of it keeps the cost per record low. Every [`HALF_LIFE`] all figures are halved, so they
//! cover the last minutes.

mod sampler;
mod space_saving;

use std::time::Duration;

pub use space_saving::{HeavyKey, SKETCH_CAPACITY, SMALLEST_SHARE};

use crate::time::Moment;
use sampler::Sampler;
use space_saving::SpaceSaving;

/// What is this old counts half of what is new.
pub const HALF_LIFE: Duration = Duration::from_secs(60);

/// The heaviest keys of one partition by one measure. `N` is what a key is called outside: made
/// only for keys that matter.
///
/// The shell calls [`sample`](Self::sample) for every record, which is some additions, and
/// [`credit`](Self::credit)s the few that are sampled.
///
/// # Examples
/// ```
/// use keylane_core::KeySketch;
///
/// let mut sketch = KeySketch::default();
/// for record in 0..300 {
///     let (key, name) = if record % 3 == 0 { (record, "other") } else { (7, "hot") };
///     if let Some(weight) = sketch.sample(1) {
///         sketch.credit(key, weight, || name);
///     }
/// }
/// assert_eq!(sketch.top(1).first().map(|key| *key.name), Some("hot"));
/// ```
#[derive(Clone, Debug)]
pub struct KeySketch<N> {
    sampler: Sampler,
    keys: SpaceSaving<N>,
    next_halving: Option<Moment>,
}

impl<N> Default for KeySketch<N> {
    fn default() -> Self {
        Self {
            sampler: Sampler::default(),
            keys: SpaceSaving::default(),
            next_halving: None,
        }
    }
}

impl<N> KeySketch<N> {
    /// A record weighs so much: `Some` of the weight its key is to be credited with, which then
    /// stands for the records before it that were not sampled.
    ///
    /// As long as there are no more than some hundred records a second, that is each with its own
    /// weight. Of more, a key's chance is its share of the weight, and what weighs as much as many
    /// others together is never left out.
    #[inline]
    pub fn sample(&mut self, weight: u64) -> Option<u64> {
        self.sampler.take(weight)
    }

    /// Counts a weight for a key, given by a good hash. `name` is called when the key is seen to
    /// matter (at least once [`SMALLEST_SHARE`] of all is surely its own), and not again while it
    /// does.
    pub fn credit(&mut self, key: u64, weight: u64, name: impl FnOnce() -> N) {
        self.keys.credit(key, weight, name);
    }

    /// Lets time pass. To be called about once a second, or more often.
    pub fn tick(&mut self, now: Moment) {
        self.sampler.tick(now);
        let next = *self.next_halving.get_or_insert(now + HALF_LIFE);
        if now < next {
            return;
        }
        let missed = now.since(next).as_nanos() / HALF_LIFE.as_nanos();
        self.keys
            .halve(u32::try_from(missed + 1).unwrap_or(u32::MAX));
        self.next_halving = Some(now + HALF_LIFE);
    }

    /// The heaviest keys, heaviest first, by what is surely theirs; at most `limit`.
    pub fn top(&self, limit: usize) -> Vec<HeavyKey<&N>> {
        self.keys.top(limit)
    }

    /// The weight of all keys.
    pub fn total(&self) -> u64 {
        self.keys.total()
    }
}

#[cfg(test)]
mod tests;
