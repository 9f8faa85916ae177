//! What was done more than once, and why.

use std::{collections::HashMap, time::Duration};

use serde::Serialize;

use super::{
    GRACE,
    history::{Attempt, End, History, Place},
};
use crate::{
    clock::{Nanos, nanos},
    journal::Outcome,
};

/// A drain that drops an attempt says so within this time.
const SAME_DRAIN: Duration = Duration::from_secs(1);

/// Records that were settled once more, by cause.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Duplicates {
    /// The first one's process was killed, or ended by a record.
    pub crash: usize,
    /// The first one's member was out of the group, or stopped.
    pub lost_assignment: usize,
    /// The first one had not ended when the time of its drain was over. These are repeated, but were not settled before.
    pub drain_deadline: usize,
    /// A broker was away when the commit was due.
    pub outage: usize,
    /// None of these.
    pub unexplained: usize,
}

/// The duplicates, and those without a cause in words.
pub fn find(history: &History) -> (Duplicates, Vec<String>) {
    let mut places: HashMap<Place, Vec<&Attempt>> = HashMap::new();
    for attempt in &history.attempts {
        places.entry(attempt.place).or_default().push(attempt);
    }
    let (mut found, mut unexplained) = (Duplicates::default(), Vec::new());
    for attempts in places.values() {
        found.drain_deadline += attempts.windows(2).filter(|pair| was_dropped(history, pair[0], pair[1])).count();
        let settled: Vec<&&Attempt> = attempts.iter().filter(|attempt| attempt.settled()).collect();
        for pair in settled.windows(2) {
            match cause(history, pair[0], pair[1]) {
                Some(Cause::Crash) => found.crash += 1,
                Some(Cause::Lost) => found.lost_assignment += 1,
                Some(Cause::Outage) => found.outage += 1,
                None => {
                    found.unexplained += 1;
                    unexplained.push(format!("{} AFTER {}", history.show(pair[1]), history.show(pair[0])));
                }
            }
        }
    }
    (found, unexplained)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Crash,
    Lost,
    Outage,
}

fn cause(history: &History, first: &Attempt, again: &Attempt) -> Option<Cause> {
    let life = &history.lives[first.life];
    let session = nanos(Duration::from_millis(history.evidence.common.session_timeout_ms));
    // What was settled so long before it was cut off had been committed.
    let uncommitted = life.commit_interval + nanos(GRACE);
    if life.end.is_some_and(|(end, how)| how != End::Orderly && end >= first.start && end <= again.start) {
        return Some(Cause::Crash);
    }
    let stopped = life.stops.iter().any(|stop| stop.meets(first.start, first.end + uncommitted));
    // The group may have given its partitions away long before it learns of it.
    let lost = life.lost.iter().any(|&lost| lost >= first.start && lost <= first.end + session + uncommitted);
    let later = |at: Nanos| at >= first.end && at <= again.start;
    if stopped || lost {
        Some(Cause::Lost)
    } else if history.outage(first.end, again.start)
        || history.lives[again.life].unreadable.iter().any(|&at| later(at))
    {
        Some(Cause::Outage)
    } else {
        None
    }
}

fn was_dropped(history: &History, first: &Attempt, again: &Attempt) -> bool {
    let given_back = &history.lives[first.life].given_back;
    let near = |at: Nanos| (at - first.end).abs() <= nanos(SAME_DRAIN);
    first.outcome == Some(Outcome::CutOff)
        && (first.life, first.epoch) != (again.life, again.epoch)
        && given_back.iter().any(|&(at, dropped)| dropped && near(at))
}
