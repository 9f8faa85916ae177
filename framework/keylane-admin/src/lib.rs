//! Health, state and steering of keylane's subscriptions over HTTP.
//!
//! ```no_run
//! use keylane_admin::AdminServer;
//! # use keylane::{Json, Subscription, Task, TaskError};
//!
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let admin = AdminServer::builder().port(8081).start()?;
//! let subscription = Subscription::builder("parking-notifier", "parking-events")
//!     .bootstrap_servers("localhost:9092")
//!     .start(Json, |_: Task<String>| async { Ok::<(), TaskError>(()) })
//!     .await?;
//! admin.add(subscription.handle())?;
//! subscription.run_until(tokio::signal::ctrl_c()).await?;
//! admin.shutdown().await;
//! # Ok(()) }
//! ```
//!
//! Which partition is stuck, and which record and key hold it:
//!
//! ```console
//! $ curl -s localhost:8081/health/ready
//! {"status":"degraded","reasons":[{"severity":"degraded","code":"partition_stalled","subscription":"parking-notifier",
//!  "topic":"parking-events","partition":2,"text":"no progress for 74 s: the commit waits for offset 4711"}],"omitted":0}
//! $ curl -s 'localhost:8081/v1/subscriptions/parking-notifier/oldest?limit=1'
//! {"records":[{"topic":"parking-events","partition":2,"offset":4711,"key_hash":"1f60e652ab9e07d6","age_seconds":75.1,
//!  "attempts":6,"state":"waiting","last_error":"gateway said 503"}]}
//! ```
//!
//! A key is shown by its [hash](keylane::record::KeyHash) only. An error is shown as the processor
//! wrote it, and the log has it too: what identifies a person does not belong into it.
//!
//! # Health
//! | `GET` | 200 means |
//! |---|---|
//! | `/health/startup` | every subscription has joined its group at least once |
//! | `/health/live` | every polling thread polls, and none has ended with an error. Brokers that are away, a processor that blocks its thread, or work that is stuck do not count: a restart would not help |
//! | `/health/ready` | in addition, every subscription has an assignment now and is not closing. One without partitions counts (more members than partitions), unless its topic is missing |
//!
//! Anything else is 503. The answer lists the reasons, also what is merely *degraded* with 200:
//! stalled partitions, blocked owners, suspected outages, parked records, care after a crash,
//! brokers that are away, pauses, and more. A process without any subscription has not started and
//! is not ready.
//!
//! # State
//! | `GET` | |
//! |---|---|
//! | `/v1/subscriptions` | all, summed up |
//! | `/v1/subscriptions/{name}` | one, with its partitions |
//! | `/v1/subscriptions/{name}/partitions/{topic}/{partition}` | one partition |
//! | `/v1/subscriptions/{name}/oldest?limit=20` | for each partition the record that its commit waits for, the longest waiting first |
//! | `/v1/subscriptions/{name}/hot-keys?limit=20` | the keys with the most records, the most time in attempts and the longest waits, by their hashes; in plain only where [`HotKeySettings::plain_keys`](keylane::config::HotKeySettings::plain_keys) allows it and the request has the token |
//! | `/openapi.json` | the description of all this (OpenAPI 3.1) |
//! | `/metrics` | where [`AdminServerBuilder::metrics`] was called |
//!
//! Names in a path are percent-encoded. Figures are a second old at most, hot keys up to ten.
//!
//! # Steering
//! `POST` to `/v1/subscriptions/{name}/pause`, `…/resume` or `…/shutdown`, or to
//! `/v1/subscriptions/{name}/partitions/{topic}/{partition}/pause` or `…/resume`: 202 means that it
//! was requested, as by the [handle](keylane::SubscriptionHandle). All of it is refused with 403
//! unless the server has a [token](AdminServerBuilder::token):
//!
//! ```console
//! $ curl -s -X POST -H "Authorization: Bearer $TOKEN" localhost:8081/v1/subscriptions/parking-notifier/pause
//! {"action":"pause","subscription":"parking-notifier","topic":null,"partition":null}
//! ```
//!
//! A pause lasts until it is resumed or the process ends; that of a partition until this member
//! gives it up.
//!
//! Acts on keys and records, `release-held`, and redrives of dead letters have a body that says who
//! orders them and why, and can be tried dry (`dry_run`): the manual's page *The admin API* has them.
//! One redrive runs at a time, on a thread of its own. It stops after its transaction when the server
//! or the subscription ends, and can be resumed.
//!
//! # Safety
//! It listens on 127.0.0.1 by default. There, a request whose `Host` is neither an address of the
//! loopback nor `localhost` is refused, so that no web page can reach it under a name of its own.
//! Pages of other origins are allowed nothing. There is no TLS: beyond the loopback put a proxy in
//! front, or keep it inside a trusted network, where every client can read state and health.
//!
//! Bounded: 32 connections at a time (more wait), 10 s for the head of a request, 16 KiB for it, 16
//! KiB for a body, 1 min for a connection. The server has a thread of its own, so it answers while
//! the processors' threads are blocked.
//!
//! To serve the same paths on a port of your own, mount the [router](AdminRoutes) in an axum app.
//!
//! Errors are problem details (RFC 9457) with a `code` for programs.

mod access;
mod acts;
mod admin_routes;
mod answers;
mod builder;
mod dead_letters;
mod error;
mod health;
mod hot_keys;
mod lock;
mod orders;
mod problem;
mod redrives;
mod routes;
mod served;
mod server;
#[cfg(test)]
mod tests;

pub use admin_routes::AdminRoutes;
pub use builder::AdminServerBuilder;
pub use error::AdminError;
pub use server::AdminServer;
