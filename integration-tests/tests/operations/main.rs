//! What people on call get: dashboards, alert rules and the stack in `docker/`, held against the
//! real thing.
//!
//! A real Prometheus with the shipped rules scrapes real processes on a real Kafka while something
//! is broken on purpose.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests stop the test as the tests do"
)]

mod dashboards;
mod day;
mod faults;
mod files;
mod panels;
mod picture;
mod prometheus;
mod rules;
mod scene;
mod stack;
