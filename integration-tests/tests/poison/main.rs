//! Records that kill their process, with real processes on a real Kafka.
//!
//! The members are this very test binary, started again as [`member`]; each notes what it does in a file, a line at a
//! time, which outlives it. The suites count the starts, or the deaths, until everything but the killers is processed.

#![allow(clippy::unwrap_used, reason = "helpers of tests stop the test as the tests do")]

mod after_a_crash;
mod killers;
mod members;
mod ordinary;
mod process;
mod suite;

/// Not a test of its own: what the started processes run. Without the variables there is nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn member() {
    process::run().await;
}
