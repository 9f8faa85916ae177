//! G2, the other half: two attempts of one key never run at a time, unless a member died or had lost its assignment.

use std::{collections::HashMap, time::Duration};

use super::history::{Attempt, History, Life};
use crate::{
    clock::{Nanos, nanos},
    evidence::Source,
};

/// How long a member may go on that has lost its assignment and does not know it yet.
const UNAWARE: Duration = Duration::from_secs(30);

/// What was found.
#[derive(Debug, Default)]
pub struct Overlaps {
    /// In orderly hand-overs, or within one member.
    pub clean: Vec<String>,
    /// With one that died, was stopped, or had lost its assignment.
    pub crash: usize,
}

/// Every start within a running attempt of the same topic, partition and key.
pub fn find(history: &History) -> Overlaps {
    let mut running: HashMap<(Source, i32, &str), Vec<&Attempt>> = HashMap::new();
    let mut found = Overlaps::default();
    for attempt in &history.attempts {
        let Some(key) = &attempt.key else { continue };
        let lane = running.entry((attempt.place.source, attempt.place.partition, key)).or_default();
        lane.retain(|other| other.end > attempt.start);
        for other in lane.iter() {
            if is_of_a_crash(&history.lives[other.life], other.start, attempt.start)
                || is_of_a_crash(&history.lives[attempt.life], attempt.start, attempt.start)
            {
                found.crash += 1;
            } else {
                found.clean.push(format!("{} WHILE {}", history.show(attempt), history.show(other)));
            }
        }
        lane.push(attempt);
    }
    found
}

/// Whether the one that made an attempt from `from` on had died, been stopped, or lost its partitions by `at`, though it may
/// have learned it later.
fn is_of_a_crash(life: &Life, from: Nanos, at: Nanos) -> bool {
    let died = life.end.is_some_and(|(end, how)| how != super::history::End::Orderly && end >= from && end <= at);
    died || life.stops.iter().any(|stop| stop.meets(from, at))
        || life.lost.iter().any(|&lost| lost >= from && lost <= at + nanos(UNAWARE))
}
