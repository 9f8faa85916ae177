//! Subscriptions on the embedded broker. One program for all of it: while a test waits, others run.
//! Tests that need a process for themselves (a recorder, a subscriber, the quiet of the process)
//! are files beside this one.
// Clippy allows it in test functions only, not in what they call.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod acts;
mod back_pressure;
mod cancellation;
mod committed_offsets;
mod control_topic;
mod decaton;
mod end_to_end;
mod fetch_errors;
mod foreign_retries;
mod hot_keys;
mod layers;
mod max_in_flight;
mod message_ids;
mod outages;
mod pause;
mod rebalance;
mod redrive;
mod redrive_task;
