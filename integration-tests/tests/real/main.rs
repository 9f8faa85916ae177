//! The guarantees, and what else only a broker can show, on a real Kafka.
//!
//! One program for all of it: one Kafka is started for most tests, and while a test waits, others
//! run. What breaks brokers takes some of its own.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests stop the test as the tests do"
)]

mod commands;
mod dead_letter_commands;
mod failure_policy;
mod g12_control_topic;
mod g1_no_silent_loss;
mod g2_key_order;
mod g3_isolation;
mod g4_honest_commits;
mod g6_bounds;
mod g7_epochs;
mod g7_writes;
mod g8_calm_rebalances;
mod g9_loud_failures;
mod harness;
mod idle_members;
mod inbox;
mod metrics;
mod offset_resets;
mod outbox;
mod redrive;
mod redrive_over_http;
mod regressions;
mod request_reply;
mod start_up;
mod stuck_work;
mod topic_made_anew;
