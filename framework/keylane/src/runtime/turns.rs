//! Turns: no suspect runs beside what is suspicious too, in the whole process.
//!
//! When a process dies the partitions it had all count a crash, and each that had named a record
//! suspects it. So a suspect runs alone among the partitions that have crashed lately, whichever
//! subscription they belong to. Turns are given in the order they were asked for. Suspects of a
//! partition follow each other for [`keylane_core::TURN_PATIENCE`] while others wait, and the last
//! of them keeps its turn no longer than [`keylane_core::SUSPECT_PATIENCE`]. Healthy partitions are
//! held up only while a record is tried that was named alone at a crash before: see `quiet.rs`.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};

use keylane_core::{Instance, Turn};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::inbox::Inbox;
use super::quiet::Quiet;

/// More than partitions could ever share a turn.
const ALL: u32 = 1 << 20;

static TURNS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(ALL as usize)));
static WAITING: AtomicUsize = AtomicUsize::new(0);
static WAITING_ALONE: AtomicUsize = AtomicUsize::new(0);

/// Given back when it is dropped.
pub(super) struct TurnPermit {
    pub(super) kind: Turn,
    _quiet: Option<Quiet>,
    _permit: OwnedSemaphorePermit,
}

impl TurnPermit {
    /// Whether it is to be given back soon.
    pub(super) fn is_asked_back(&self) -> bool {
        let waiting = if self.kind == Turn::Shared {
            &WAITING_ALONE
        } else {
            &WAITING
        };
        waiting.load(Ordering::Relaxed) > 0
    }
}

/// Asks for a turn, which comes through the inbox; to be spawned.
pub(super) fn request(kind: Turn, inbox: Arc<Inbox>) -> impl Future<Output = ()> {
    let waiting = Waiting::new(kind);
    async move {
        let permits = match kind {
            Turn::Shared => 1,
            Turn::Alone | Turn::Quiet => ALL,
        };
        // The semaphore is never closed.
        if let Ok(permit) = TURNS.clone().acquire_many_owned(permits).await {
            drop(waiting);
            let quiet = if kind == Turn::Quiet {
                Some(Quiet::begin().await)
            } else {
                None
            };
            inbox.turn(TurnPermit {
                kind,
                _quiet: quiet,
                _permit: permit,
            });
        }
    }
}

struct Waiting(Turn);

impl Waiting {
    fn new(kind: Turn) -> Self {
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

/// This process, by a number that its successor will hardly draw again.
pub(crate) fn instance() -> Instance {
    static INSTANCE: OnceLock<Instance> = OnceLock::new();
    *INSTANCE.get_or_init(|| {
        let drawn = std::hash::RandomState::new().hash_one(std::process::id());
        Instance::new((drawn >> 32) as u32)
    })
}
