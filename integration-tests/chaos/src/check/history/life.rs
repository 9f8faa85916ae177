//! One process of a member: how it lived and how it ended.

use std::time::Duration;

use super::Span;
use crate::{
    check::given_up,
    clock::{Nanos, nanos},
    journal::{Deed, Line, Note, Sent},
    planted::Planted,
};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself, after a shutdown or with an error.
    Orderly,
    /// It ended by `kill -9`.
    Killed,
    /// A record ended it.
    Aborted,
    /// By itself, after a panic in one of keylane's threads. What it had settled may not be
    /// committed.
    Panicked,
}

/// One process of a member.
#[derive(Debug, Clone)]
pub struct Life {
    /// Its name.
    pub name: String,
    /// How often it committed.
    pub commit_interval: Nanos,
    /// When and how it ended: for one that was killed, when the signal was sent.
    pub end: Option<(Nanos, End)>,
    /// When it was gone for sure.
    pub gone: Nanos,
    /// When it was stopped by a signal.
    pub stops: Vec<Span>,
    /// When it learned that its assignment was lost.
    pub lost: Vec<Nanos>,
    /// When it gave partitions back, and whether the deadline of the drain had passed.
    pub given_back: Vec<(Nanos, bool)>,
    /// When it gave partitions up, and what they had settled last may not have been committed.
    pub given_up: Vec<Span>,
    /// When it could not read the commits of its new partitions.
    pub unreadable: Vec<Nanos>,
    /// When a panic that was planted in one of keylane's threads went off, and in which.
    pub planted: Option<(Nanos, Planted)>,
    /// What its subscription said when it had ended: an error, or nothing.
    pub down: Option<Option<String>>,
    /// Whether it had to be killed because it did not end after that panic.
    pub hung: bool,
}

pub(super) fn life(name: &str, notes: &[Line<Note>], deeds: &[Line<Deed>]) -> Life {
    let last_note = notes.last().map_or(0, |line| line.at);
    let mut life = Life {
        name: name.to_owned(),
        commit_interval: nanos(Duration::from_secs(1)),
        end: None,
        gone: Nanos::MAX,
        stops: Vec::new(),
        lost: Vec::new(),
        given_back: Vec::new(),
        given_up: given_up::spans(notes),
        unreadable: Vec::new(),
        planted: None,
        down: None,
        hung: false,
    };
    if let Some(Note::Up { commit_interval_ms }) = notes.first().map(|line| &line.what) {
        life.commit_interval = nanos(Duration::from_millis(*commit_interval_ms));
    }
    for line in deeds {
        match &line.what {
            Deed::Signalled { member, signal } if member == name => match signal {
                Sent::Kill => life.end = Some((line.at, End::Killed)),
                Sent::Stop => life.stops.push(Span {
                    from: line.at,
                    to: Nanos::MAX,
                }),
                Sent::Continue => {
                    if let Some(stop) = life.stops.last_mut() {
                        stop.to = line.at;
                    }
                }
                Sent::Terminate => {}
            },
            Deed::Hung { member } if member == name => life.hung = true,
            Deed::Exited {
                member, orderly, ..
            } if member == name => {
                life.gone = line.at;
                let end = if *orderly || life.hung {
                    End::Orderly
                } else {
                    End::Aborted
                };
                life.end = life.end.or(Some((last_note, end)));
            }
            _ => {}
        }
    }
    life
}
