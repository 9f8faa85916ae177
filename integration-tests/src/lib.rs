//! What the integration suites share: a real Apache Kafka that can be broken on purpose, a journal
//! of what the processors saw with checkers for the guarantees, and waiting with a deadline.
//!
//! ```no_run
//! # async fn suite() {
//! use keylane_integration_tests::{kafka::Nodes, kafka_or_skip};
//!
//! let kafka = kafka_or_skip!(Nodes::One);
//! let topic = kafka.unique("orders");
//! kafka.create_topic(&topic, 8, 1, &[]).await.unwrap();
//! # }
//! ```
//!
//! The harness needs a Unix: it stops and continues brokers with signals.

#[cfg(feature = "ssl")]
pub mod certificates;
pub mod claims;
pub mod commit_watch;
pub mod dead_letters;
pub mod gate;
pub mod journal;
pub mod kafka;
pub mod load;
#[cfg(doctest)]
mod manual;
pub mod member;
pub mod members;
pub mod postgres;
pub mod process;
pub mod protocol;
pub mod report;
pub mod scene;
#[cfg(feature = "ssl")]
pub mod secure;
pub mod threads;
pub mod wait;
