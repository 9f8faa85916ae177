//! Suites that need a Kafka are skipped where there is none, and print that; in CI that is a
//! failure.

use std::{
    io::Write,
    sync::{Mutex, OnceLock},
};

use super::{Extras, Found, Kafka, Nodes, node::lock, room::Place};

/// The Kafka that the tests of one binary share, from `KAFKA_BOOTSTRAP` or started at the first
/// call.
///
/// Suites on it use topics and groups of their own ([`Kafka::unique`]) and leave the brokers alone;
/// those that break brokers take their [`own`]. `None` means: skip, the reason has been printed.
///
/// # Panics
/// With `CI=true`, when there is none.
pub fn shared(nodes: Nodes) -> Option<&'static Kafka> {
    shared_with(nodes, &Extras::default())
}

/// The same with more properties than the plain ones, where the harness starts it: one for each
/// such set of them.
///
/// # Panics
/// With `CI=true`, when there is none.
pub fn shared_with(nodes: Nodes, extras: &Extras) -> Option<&'static Kafka> {
    slot(nodes, extras)
        .get_or_init(|| running_or_skipped(Kafka::find_with(nodes, extras)))
        .as_ref()
}

type Slot = OnceLock<Option<Kafka>>;

/// Where that Kafka is, or will be: others are not kept waiting while it starts.
fn slot(nodes: Nodes, extras: &Extras) -> &'static Slot {
    static SHARED: Mutex<Vec<(Nodes, Extras, &'static Slot)>> = Mutex::new(Vec::new());
    let mut shared = lock(&SHARED);
    let found = shared
        .iter()
        .find(|(of, with, _)| (*of, with) == (nodes, extras));
    if let Some((.., slot)) = found {
        return slot;
    }
    let slot: &'static Slot = Box::leak(Box::default());
    shared.push((nodes, extras.clone(), slot));
    slot
}

/// A Kafka for one test alone, always started by the harness, to be broken at will. Blocks while
/// other tests of this process have as many brokers as a machine with little memory can hold.
///
/// # Panics
/// With `CI=true`, when none can be started.
pub fn own(nodes: Nodes) -> Option<Kafka> {
    own_with(nodes, &Extras::default())
}

/// The same with more listeners and properties than the plain ones.
///
/// # Panics
/// With `CI=true`, when none can be started.
pub fn own_with(nodes: Nodes, extras: &Extras) -> Option<Kafka> {
    let place = Place::for_brokers(nodes.count());
    let mut kafka = running_or_skipped(Kafka::start_with(nodes, extras))?;
    kafka.place = Some(place);
    Some(kafka)
}

fn running_or_skipped(found: Found) -> Option<Kafka> {
    match found {
        Found::Running(kafka) => Some(kafka),
        Found::Unavailable(reason) => {
            let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
            assert!(!ci, "a real Kafka is required where CI=true: {reason}");
            say_once(&reason);
            None
        }
    }
}

fn say_once(reason: &str) {
    static SAID: Mutex<bool> = Mutex::new(false);
    let mut said = lock(&SAID);
    if !*said {
        *said = true;
        let reason = reason.lines().collect::<Vec<_>>().join(" | ");
        say_skipped(&format!("no real Kafka: {reason}"));
    }
}

/// Past the capture of the test runner, which would hide the line of a test that passes.
pub(crate) fn say_skipped(what: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED, {what}");
}

/// The Kafka that the tests of this binary share ([`kafka::shared`](crate::kafka::shared)); where
/// there is none, the calling test returns.
#[macro_export]
macro_rules! kafka_or_skip {
    ($nodes:expr) => {
        match $crate::kafka::shared($nodes) {
            Some(kafka) => kafka,
            None => return,
        }
    };
    ($nodes:expr, $extras:expr) => {
        match $crate::kafka::shared_with($nodes, &$extras) {
            Some(kafka) => kafka,
            None => return,
        }
    };
}

/// A Kafka for the calling test alone ([`kafka::own`](crate::kafka::own)); where none can be
/// started, the test returns.
#[macro_export]
macro_rules! own_kafka_or_skip {
    ($nodes:expr) => {
        match $crate::kafka::own($nodes) {
            Some(kafka) => kafka,
            None => return,
        }
    };
}
