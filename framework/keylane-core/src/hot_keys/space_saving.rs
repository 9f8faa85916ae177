//! Space-Saving with weights: the keys that may be among the heaviest, each with a bound on its
//! error.
//!
//! A key that is not among the entries takes the place of the lightest one, and its count. So
//! counts are never too low. They are too high by no more than the lightest count, which is at most
//! the total divided by the number of entries.

/// How many keys a sketch keeps.
pub const SKETCH_CAPACITY: usize = 64;
/// A key with less than one part in this many of the total is not reported.
pub const SMALLEST_SHARE: u64 = 256;

#[derive(Clone, Debug)]
pub(super) struct SpaceSaving<N> {
    /// Apart from the entries, for the search goes through all of them.
    keys: Vec<u64>,
    entries: Vec<Entry<N>>,
    total: u64,
}

#[derive(Clone, Debug)]
struct Entry<N> {
    count: u64,
    /// How much of the count may be other keys'.
    error: u64,
    name: Option<N>,
}

/// A key and what it weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeavyKey<N> {
    /// What it is called.
    pub name: N,
    /// What is surely its own.
    pub at_least: u64,
    /// What may be its own.
    pub at_most: u64,
}

impl<N> Default for SpaceSaving<N> {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            entries: Vec::new(),
            total: 0,
        }
    }
}

impl<N> SpaceSaving<N> {
    pub(super) fn credit(&mut self, key: u64, weight: u64, name: impl FnOnce() -> N) {
        self.total = self.total.saturating_add(weight);
        let place = self
            .keys
            .iter()
            .position(|&other| other == key)
            .unwrap_or_else(|| self.make_room(key));
        let total = self.total;
        let entry = &mut self.entries[place];
        entry.count = entry.count.saturating_add(weight);
        if entry.name.is_none() && entry.surely() >= total / SMALLEST_SHARE {
            entry.name = Some(name());
        }
    }

    /// Halves everything `times` times, and removes entries that reach zero.
    pub(super) fn halve(&mut self, times: u32) {
        for entry in &mut self.entries {
            entry.count = entry.count.checked_shr(times).unwrap_or(0);
            entry.error = entry.error.checked_shr(times).unwrap_or(0);
        }
        for place in (0..self.entries.len()).rev() {
            if self.entries[place].count == 0 {
                self.entries.swap_remove(place);
                self.keys.swap_remove(place);
            }
        }
        // Not half of what it was: with every rounding it stays what the counts add up to, on which
        // the bound rests.
        self.total = self
            .entries
            .iter()
            .fold(0, |total: u64, entry| total.saturating_add(entry.count));
    }

    pub(super) fn top(&self, limit: usize) -> Vec<HeavyKey<&N>> {
        let known = self.entries.iter().filter_map(|entry| {
            Some(HeavyKey {
                name: entry.name.as_ref()?,
                at_least: entry.surely(),
                at_most: entry.count,
            })
        });
        let mut top: Vec<_> = known.collect();
        top.sort_by_key(|key| std::cmp::Reverse((key.at_least, key.at_most)));
        top.truncate(limit);
        top
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    fn make_room(&mut self, key: u64) -> usize {
        if self.keys.len() < SKETCH_CAPACITY {
            self.keys.push(key);
            self.entries.push(Entry {
                count: 0,
                error: 0,
                name: None,
            });
            return self.keys.len() - 1;
        }
        let place = (0..self.entries.len())
            .min_by_key(|&place| self.entries[place].count)
            .unwrap_or(0);
        self.keys[place] = key;
        let entry = &mut self.entries[place];
        entry.error = entry.count;
        entry.name = None;
        place
    }
}

impl<N> Entry<N> {
    fn surely(&self) -> u64 {
        self.count - self.error
    }
}
