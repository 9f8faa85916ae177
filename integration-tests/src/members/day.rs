//! The service of the manual's page "An operator's day", which says what it has pushed.

#![allow(
    clippy::unwrap_used,
    reason = "a member that fails stops, and its test finds it dead"
)]

use std::{
    io::{self, Read, Write},
    time::Duration,
};

use operators_day::{Gateway, Service};
use serde::{Deserialize, Serialize};

use super::operations::VARIABLE;

/// A call of the gateway: a line of the member's output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Push {
    /// Where the record lies.
    pub topic: String,
    /// Where the record lies.
    pub partition: i32,
    /// Where the record lies.
    pub offset: i64,
    /// The record's key.
    pub vehicle: String,
    /// That of the event, also in a copy.
    pub number: u64,
    /// Whether the gateway took it.
    pub is_accepted: bool,
}

/// Runs until its input ends.
///
/// # Panics
/// When one of the variables is missing, or the service does not start or end well.
pub async fn run() {
    let variable = |name: &str| {
        let name = format!("{VARIABLE}{name}");
        std::env::var(&name).unwrap_or_else(|_| panic!("{name} is not set"))
    };
    super::log_to_stderr();
    let mut config: keylane::SubscriptionConfig =
        serde_json::from_str(&variable("SETTINGS")).unwrap();
    config.startup_timeout = Duration::from_secs(60);
    let service = Service {
        config,
        metrics: variable("METRICS").parse().unwrap(),
        admin: variable("ADMIN").parse().unwrap(),
        gateway: Gateway {
            old_backup: variable("OLD_BACKUP").into(),
        },
        rate: 40,
    };
    let end_of_input = tokio::task::spawn_blocking(|| {
        while io::stdin().read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
    });
    service
        .run(
            |(task, answer)| {
                let push = Push {
                    topic: task.topic().to_owned(),
                    partition: task.partition(),
                    offset: task.offset(),
                    vehicle: task.payload().vehicle.clone(),
                    number: task.payload().number,
                    is_accepted: answer.is_ok(),
                };
                let line = serde_json::to_string(&push).unwrap();
                // The reader may have ended; then the member is about to end too.
                let _ = writeln!(io::stdout(), "{line}");
            },
            end_of_input,
        )
        .await
        .unwrap();
}
