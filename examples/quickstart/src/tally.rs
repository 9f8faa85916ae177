//! Where the run stands, for the progress bar and for knowing when all is done.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Counts that only grow. They show when to look; the report comes from the journals.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    enqueued: AtomicU64,
    done: AtomicU64,
    dead_lettered: AtomicU64,
    leftovers: AtomicU64,
    first_done: OnceLock<Instant>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Acknowledged by the broker.
    pub(crate) enqueued: u64,
    /// Accepted by the gateway, repetitions aside.
    pub(crate) done: u64,
    /// Read from the dead-letter topic, repetitions aside.
    pub(crate) dead_lettered: u64,
    /// Accepted by the gateway for earlier runs.
    pub(crate) leftovers: u64,
}

impl Tally {
    pub(crate) fn count_enqueued(&self, events: u64) {
        self.enqueued.fetch_add(events, Ordering::Relaxed);
    }

    pub(crate) fn count_done(&self) {
        self.first_done.get_or_init(Instant::now);
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_dead_lettered(&self) {
        self.dead_lettered.fetch_add(1, Ordering::Relaxed);
    }

    /// An event that an earlier run left on the topic was accepted. It comes before those of this
    /// run.
    pub(crate) fn count_leftover(&self) {
        self.leftovers.fetch_add(1, Ordering::Relaxed);
    }

    /// How long there have been results. Leaves out joining the group, which is no part of
    /// throughput.
    pub(crate) fn since_first_done(&self) -> Duration {
        self.first_done
            .get()
            .map(Instant::elapsed)
            .unwrap_or_default()
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            enqueued: self.enqueued.load(Ordering::Relaxed),
            done: self.done.load(Ordering::Relaxed),
            dead_lettered: self.dead_lettered.load(Ordering::Relaxed),
            leftovers: self.leftovers.load(Ordering::Relaxed),
        }
    }
}

impl Counts {
    pub(crate) fn settled(self) -> u64 {
        self.done + self.dead_lettered
    }
}
