//! Turns: no suspect runs beside what is suspicious too, in the whole process.
//!
//! When a process dies, all its partitions count a crash, and each that had named a record suspects
//! it. So a suspect runs alone among the partitions that have crashed lately, of all subscriptions.
//! Turns are given in the order of the requests. Suspects of a partition follow each other for
//! [`keylane_core::TURN_PATIENCE`] while others wait, and the last of them keeps its turn no longer
//! than [`keylane_core::SUSPECT_PATIENCE`]. Healthy partitions are held up only while a record is
//! tried that was named alone at a crash before: see `quiet.rs`.

use std::hash::BuildHasher;
use std::sync::{Arc, LazyLock, OnceLock};

use keylane_core::{Instance, Turn};
use tokio::sync::Semaphore;

use super::permit::{TurnPermit, Waiting};
use super::quiet::{self, Quiet};
use crate::runtime::inbox::Inbox;

/// More than partitions could ever share a turn.
const ALL: u32 = 1 << 20;

static TURNS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(ALL as usize)));
/// Requests a turn, which comes through the inbox; to be spawned.
pub(crate) fn request(kind: Turn, inbox: Arc<Inbox>) -> impl Future<Output = ()> {
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
            inbox.turn(TurnPermit::new(kind, quiet, permit));
        }
    }
}

/// Wakes an owner when the trial is over; to be spawned.
pub(crate) async fn wake_after_trial(inbox: Arc<Inbox>) {
    quiet::no_trial().await;
    inbox.trial_over();
}

/// This process, by a number that its successor will hardly draw again.
pub(crate) fn instance() -> Instance {
    static INSTANCE: OnceLock<Instance> = OnceLock::new();
    *INSTANCE.get_or_init(|| {
        let drawn = std::hash::RandomState::new().hash_one(std::process::id());
        Instance::new((drawn >> 32) as u32)
    })
}
