//! Suites that need a Kafka are skipped where there is none, and say so; in CI that is a failure.

use std::{
    io::Write,
    sync::{Mutex, OnceLock},
};

use super::{Extras, Found, Kafka, Nodes, node::lock};

/// The Kafka that the tests of one binary share, from `KAFKA_BOOTSTRAP` or started at the first call.
///
/// Suites on it use topics and groups of their own ([`Kafka::unique`]) and leave the brokers alone; those that break
/// brokers take their [`own`]. `None` means: skip, the reason has been printed.
///
/// # Panics
/// With `CI=true`, when there is none.
pub fn shared(nodes: Nodes) -> Option<&'static Kafka> {
    shared_with(nodes, &Extras::default())
}

/// The same with more properties than the plain ones, where the harness starts it. All tests of a binary ask for the same.
///
/// # Panics
/// With `CI=true`, when there is none.
pub fn shared_with(nodes: Nodes, extras: &Extras) -> Option<&'static Kafka> {
    static ONE: OnceLock<Option<Kafka>> = OnceLock::new();
    static THREE: OnceLock<Option<Kafka>> = OnceLock::new();
    let kafka = match nodes {
        Nodes::One => &ONE,
        Nodes::Three => &THREE,
    };
    kafka.get_or_init(|| running_or_skipped(Kafka::find_with(nodes, extras))).as_ref()
}

/// A Kafka for one test alone, always started by the harness, to be broken at will.
///
/// # Panics
/// With `CI=true`, when none can be started.
pub fn own(nodes: Nodes) -> Option<Kafka> {
    running_or_skipped(Kafka::start(nodes))
}

/// The same with more listeners and properties than the plain ones.
///
/// # Panics
/// With `CI=true`, when none can be started.
pub fn own_with(nodes: Nodes, extras: &Extras) -> Option<Kafka> {
    running_or_skipped(Kafka::start_with(nodes, extras))
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

/// Past the capture of the test runner, which would hide the line of a test that passes.
fn say_once(reason: &str) {
    static SAID: Mutex<bool> = Mutex::new(false);
    let mut said = lock(&SAID);
    if !*said {
        *said = true;
        let reason = reason.lines().collect::<Vec<_>>().join(" | ");
        let _ = writeln!(std::io::stderr(), "SKIPPED, no real Kafka: {reason}");
    }
}

/// The Kafka that the tests of this binary share ([`kafka::shared`](crate::kafka::shared)); where there is none, the
/// calling test returns.
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

/// A Kafka for the calling test alone ([`kafka::own`](crate::kafka::own)); where none can be started, the test returns.
#[macro_export]
macro_rules! own_kafka_or_skip {
    ($nodes:expr) => {
        match $crate::kafka::own($nodes) {
            Some(kafka) => kafka,
            None => return,
        }
    };
}
