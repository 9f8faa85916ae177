//! After `kill -9`: redelivered is at most what was settled in the last commit interval, and what was in flight.

use std::collections::HashMap;

use serde::Serialize;

use super::{
    GRACE,
    history::{Attempt, End, History, Place},
};
use crate::clock::{Nanos, nanos};

/// What one death, or one pause that cost the assignment, led to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cut {
    /// Who.
    pub member: String,
    /// What.
    pub how: &'static str,
    /// Records that it had settled, and that were delivered again.
    pub settled_redelivered: usize,
    /// Attempts that it had not ended.
    pub in_flight: usize,
    /// What it had settled in its last commit interval, and what was in flight: what may come again.
    pub bound: usize,
    /// How long before its end the oldest of those had been settled.
    pub oldest_ms: u64,
}

/// The cuts, and what came again beyond the bound, in words.
pub fn find(history: &History) -> (Vec<Cut>, Vec<String>) {
    let mut places: HashMap<Place, Vec<&Attempt>> = HashMap::new();
    for attempt in &history.attempts {
        places.entry(attempt.place).or_default().push(attempt);
    }
    let (mut cuts, mut beyond) = (Vec::new(), Vec::new());
    for (index, life) in history.lives.iter().enumerate() {
        let death = life.end.and_then(|(at, how)| match how {
            End::Orderly => None,
            End::Killed => Some((at, "kill")),
            End::Aborted => Some((at, "abort")),
        });
        // A pause that the group did not notice cuts nothing off.
        let noticed = |from: Nanos, to: Nanos| life.lost.iter().any(|&lost| lost >= from && lost <= to + nanos(GRACE) * 10);
        let stops = life.stops.iter().filter(|stop| noticed(stop.from, stop.to)).map(|stop| (stop.from, "pause"));
        for (at, how) in stops.chain(death) {
            let may_come_again = at - life.commit_interval - nanos(GRACE);
            let own = || history.attempts.iter().filter(|attempt| attempt.life == index && attempt.start <= at);
            let settled = || own().filter(|attempt| attempt.settled() && attempt.end <= at);
            let in_flight = own().filter(|attempt| attempt.end > at).count();
            let redelivered: Vec<&Attempt> =
                settled().filter(|attempt| came_again(attempt, at, &places[&attempt.place])).collect();
            let oldest = redelivered.iter().map(|attempt| at - attempt.end).max().unwrap_or(0);
            beyond.extend(
                redelivered
                    .iter()
                    .filter(|attempt| attempt.end < may_come_again && !history.outage(attempt.end, at))
                    .map(|attempt| format!("{} came again after the {how} at {}", history.show(attempt), history.clock(at))),
            );
            cuts.push(Cut {
                member: life.name.clone(),
                how,
                settled_redelivered: redelivered.len(),
                in_flight,
                bound: settled().filter(|attempt| attempt.end >= may_come_again).count() + in_flight,
                oldest_ms: u64::try_from(oldest / 1_000_000).unwrap_or(0),
            });
        }
    }
    (cuts, beyond)
}

/// Whether the next one to start the record after `settled` did so after the cut.
fn came_again(settled: &Attempt, cut: Nanos, attempts: &[&Attempt]) -> bool {
    attempts.iter().find(|attempt| attempt.start > settled.end).is_some_and(|next| next.start > cut)
}
