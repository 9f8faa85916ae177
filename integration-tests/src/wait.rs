//! Waiting for a condition with a deadline, so that no test sleeps for a guessed time.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(20);

/// Waits until `condition` holds, looking at it every 20 ms and at least once.
///
/// # Panics
/// When the condition does not hold within `deadline`; the message names `what`.
pub async fn wait_until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    wait_for(what, deadline, async || condition().then_some(())).await;
}

/// Waits until `probe` answers with a value, and returns it: for conditions that have to ask a
/// broker.
///
/// A probe that is slow by itself is not cut off: the deadline is looked at between two probes.
///
/// # Panics
/// When no value came within `deadline`; the message names `what`.
pub async fn wait_for<T>(
    what: &str,
    deadline: Duration,
    mut probe: impl AsyncFnMut() -> Option<T>,
) -> T {
    let started = Instant::now();
    let mut probes = 0_u64;
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        probes += 1;
        assert!(
            started.elapsed() < deadline,
            "waited {deadline:?} in vain ({probes} looks) until {what}"
        );
        tokio::time::sleep(INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{wait_for, wait_until};

    #[tokio::test]
    async fn a_condition_is_looked_at_until_it_holds() {
        let mut looks = 0;
        let condition = || {
            looks += 1;
            looks == 3
        };
        wait_until("three looks were taken", Duration::from_secs(60), condition).await;
        assert_eq!(looks, 3);
    }

    #[tokio::test]
    async fn a_condition_that_holds_needs_no_time_at_all() {
        wait_until("it holds", Duration::ZERO, || true).await;
    }

    #[tokio::test]
    #[should_panic(expected = "until pigs fly")]
    async fn the_panic_names_what_was_waited_for() {
        wait_until("pigs fly", Duration::ZERO, || false).await;
    }

    #[tokio::test]
    async fn the_value_of_the_probe_comes_back() {
        let mut left = vec![Some(7), None];
        assert_eq!(
            wait_for("a value came", Duration::from_secs(60), async || left
                .pop()
                .flatten())
            .await,
            7
        );
    }
}
