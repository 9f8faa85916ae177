//! What keylane keeps in a service's own database, in the service's own transactions.
//!
//! [`outbox`] writes tasks to a table in the transaction that changes the service's data, and publishes
//! them to Kafka from there. So a task is enqueued if, and only if, that transaction commits.
//!
//! [`inbox`] marks records whose effect was made, in the transaction that makes it. So a record that is
//! delivered again has no second effect.
//!
//! # Features
//! * `sqlite` (default): in an SQLite database. SQLite is built in.
//! * `postgres`: in a PostgreSQL database, from version 13 on.
//! * `tls`: TLS to PostgreSQL, by rustls.
//!
//! The types of [sqlx] 0.8 are part of this interface: its pools and its transactions.
//!
//! [sqlx]: https://docs.rs/sqlx/0.8

pub mod database;
pub mod inbox;
pub mod outbox;
