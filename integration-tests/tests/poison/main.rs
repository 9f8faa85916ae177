//! Records that kill their process, with real processes on a real Kafka.
//!
//! The members are `keylane_integration_tests::members::poison`; each notes what it does in a file,
//! a line at a time, which outlives it. The suites count the starts, or the deaths, until
//! everything but the killers is processed.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests stop the test as the tests do"
)]

mod after_a_crash;
mod killers;
mod members;
mod ordinary;
mod suite;
