//! A turn that an owner has, and how many wait for one.

use std::sync::atomic::{AtomicUsize, Ordering};

use keylane_core::Turn;
use tokio::sync::OwnedSemaphorePermit;

use super::quiet::Quiet;

static WAITING: AtomicUsize = AtomicUsize::new(0);
static WAITING_ALONE: AtomicUsize = AtomicUsize::new(0);

/// Given back when it is dropped.
pub(crate) struct TurnPermit {
    pub(crate) kind: Turn,
    _quiet: Option<Quiet>,
    _permit: OwnedSemaphorePermit,
}

impl TurnPermit {
    pub(crate) fn new(kind: Turn, quiet: Option<Quiet>, permit: OwnedSemaphorePermit) -> Self {
        Self {
            kind,
            _quiet: quiet,
            _permit: permit,
        }
    }

    /// Whether it is to be given back soon.
    pub(crate) fn is_asked_back(&self) -> bool {
        let waiting = if self.kind == Turn::Shared {
            &WAITING_ALONE
        } else {
            &WAITING
        };
        waiting.load(Ordering::Relaxed) > 0
    }
}

/// Counted among those that ask for a turn.
pub(crate) struct Waiting(Turn);

impl Waiting {
    pub(crate) fn new(kind: Turn) -> Self {
        WAITING.fetch_add(1, Ordering::Relaxed);
        if kind != Turn::Shared {
            WAITING_ALONE.fetch_add(1, Ordering::Relaxed);
        }
        Self(kind)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        WAITING.fetch_sub(1, Ordering::Relaxed);
        if self.0 != Turn::Shared {
            WAITING_ALONE.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
