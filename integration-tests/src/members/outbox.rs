//! A relay of an outbox that is killed, stopped, and ended.

#![allow(
    clippy::unwrap_used,
    reason = "a member that fails stops, and its test finds it dead"
)]

use std::{io::Read, time::Duration};

use keylane_sql::outbox::Outbox;
use sqlx::postgres::PgPoolOptions;

/// What the variables of a member begin with.
pub const VARIABLE: &str = "KEYLANE_OUTBOX_";

/// Publishes until its input ends.
///
/// # Panics
/// When one of the variables is missing, or the relay fails.
pub async fn run() {
    let needed = |name: &str| {
        let value = std::env::var(format!("{VARIABLE}{name}"));
        value.unwrap_or_else(|_| panic!("{VARIABLE}{name} is not set"))
    };
    // However the test ends.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    super::log_to_stderr();
    let pool = PgPoolOptions::new().max_connections(4);
    let pool = pool.connect_lazy(&needed("DATABASE")).unwrap();
    let relay = Outbox::postgres(pool)
        .relay()
        .bootstrap_servers(needed("SERVERS"))
        .batch(needed("BATCH").parse().unwrap())
        .lease(Duration::from_millis(needed("LEASE").parse().unwrap()))
        .start()
        .await
        .unwrap();
    let end_of_input = tokio::task::spawn_blocking(|| {
        while std::io::stdin()
            .read(&mut [0; 64])
            .is_ok_and(|read| read > 0)
        {}
    });
    relay.run_until(end_of_input).await.unwrap();
}
