//! How the harness itself talks to the brokers.

use std::time::Duration;

use rdkafka::ClientConfig;

use super::error::HarnessError;

/// For one request to a healthy broker. The first request of a group also waits for its coordinator
/// to come up.
pub(super) const REQUEST: Duration = Duration::from_secs(15);

/// Quick to notice that a broker is back.
pub(super) fn config(bootstrap_servers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap_servers)
        .set("client.id", "keylane-harness")
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "500");
    config
}

/// Runs blocking client calls away from the threads on which the code under test runs.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HarnessError> + Send + 'static,
) -> Result<T, HarnessError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => unreachable!("a blocking task that has started is never cancelled"),
        },
    }
}
