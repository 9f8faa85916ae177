//! A bug to show what keylane makes of one.

use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::event::ParkingEvent;
use crate::trouble::Trouble;

const MESSAGE: &str = "a bug that the quickstart planted";

/// Panics for the events and at the attempts that [`Trouble`] picks.
#[derive(Clone)]
pub(crate) struct Bug {
    trouble: Trouble,
    run: Arc<str>,
    struck: Arc<AtomicU64>,
}

impl Bug {
    pub(crate) fn new(trouble: Trouble, run: &str) -> Self {
        Self {
            trouble,
            run: run.into(),
            struck: Arc::default(),
        }
    }

    /// # Panics
    /// That is what it is for.
    pub(crate) fn strike(&self, event: &ParkingEvent, attempt: u32) {
        if self.trouble.panics(&event.vehicle, event.seq, attempt) {
            if event.run == *self.run {
                self.struck.fetch_add(1, Ordering::Relaxed);
            }
            panic!(
                "{MESSAGE}: vehicle {}, event {}, attempt {attempt}",
                event.vehicle, event.seq
            );
        }
    }

    /// How often an event of this run met the bug.
    pub(crate) fn struck(&self) -> u64 {
        self.struck.load(Ordering::Relaxed)
    }
}

/// Keeps the planted panics off the terminal. Any other panic is printed as usual.
pub(crate) fn print_only_other_panics() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let planted = info
            .payload()
            .downcast_ref::<String>()
            .is_some_and(|message| message.starts_with(MESSAGE));
        if !planted {
            print(info);
        }
    }));
}
