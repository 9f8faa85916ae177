//! How many brokers tests may have for themselves at a time.
//!
//! A broker takes half a gigabyte and, while it starts, a processor. Tests that run side by side
//! wait here for each other's brokers to end.

use std::sync::{Condvar, Mutex};

use super::node::lock;

/// Brokers at a time, beside those that are shared.
const MOST: usize = 4;

static ROOM: Room = Room::of(MOST);

#[derive(Debug)]
struct Room {
    free: Mutex<usize>,
    freed: Condvar,
}

impl Room {
    const fn of(brokers: usize) -> Self {
        Self {
            free: Mutex::new(brokers),
            freed: Condvar::new(),
        }
    }

    /// Blocks until there is room.
    fn take(&'static self, brokers: usize) -> Place {
        let mut free = lock(&self.free);
        while *free < brokers {
            free = self
                .freed
                .wait(free)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        *free -= brokers;
        Place {
            brokers,
            room: self,
        }
    }
}

/// Room for a number of brokers; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    brokers: usize,
    room: &'static Room,
}

impl Place {
    /// Blocks until there is room for `brokers`.
    pub(super) fn for_brokers(brokers: usize) -> Self {
        ROOM.take(brokers)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *lock(&self.room.free) += self.brokers;
        self.room.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        thread,
    };

    use super::Room;

    #[test]
    fn no_more_brokers_than_there_is_room_for_and_all_come_in_the_end() {
        static ROOM: Room = Room::of(4);
        static RUNNING: AtomicUsize = AtomicUsize::new(0);
        let threads: Vec<_> = (0..60)
            .map(|number| {
                let brokers = if number % 2 == 0 { 1 } else { 3 };
                thread::spawn(move || {
                    let _place = ROOM.take(brokers);
                    let others = RUNNING.fetch_add(brokers, Ordering::SeqCst);
                    assert!(others + brokers <= 4, "{others} and {brokers}");
                    thread::yield_now();
                    RUNNING.fetch_sub(brokers, Ordering::SeqCst);
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
    }
}
