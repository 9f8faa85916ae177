//! What people on call get: dashboards, alert rules and the stack in `docker/`, held against the real thing.
//!
//! A real Prometheus with the shipped rules scrapes real processes on a real Kafka while something is broken on purpose.
//! Members are this very test binary, started again as [`member`].

#![allow(clippy::unwrap_used, reason = "helpers of tests stop the test as the tests do")]

mod dashboards;
mod faults;
mod files;
mod panels;
mod picture;
mod process;
mod prometheus;
mod rules;
mod scene;
mod stack;

/// Not a test of its own: what the started processes run. Without the variables there is nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn member() {
    process::run().await;
}
