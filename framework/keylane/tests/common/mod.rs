//! What the tests on the embedded broker share.

use std::time::Duration;

use keylane::TaskProducer;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for the condition, and fails by its name when patience ends.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(
            tokio::time::Instant::now() < deadline,
            "not within {PATIENCE:?}: {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) async fn producer(bootstrap_servers: impl Into<String>, topic: &str) -> TaskProducer {
    TaskProducer::builder(topic)
        .bootstrap_servers(bootstrap_servers)
        .application_id("test")
        .start()
        .await
        .unwrap()
}
