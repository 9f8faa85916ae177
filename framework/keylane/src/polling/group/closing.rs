//! The end of a subscription: the client closes and leaves the group.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use crate::status::SubscriptionError;
use crate::support::panics;

/// How long closing the client may take: longer than a session without an answer from the brokers,
/// by Kafka's defaults.
const CLOSE_PATIENCE: Duration = Duration::from_secs(60);

/// Closes the client by `closing`. It polls until the group is left: some hundred milliseconds,
/// unless the brokers are away.
pub(crate) fn leave(closing: impl FnOnce() + Send + 'static) -> Result<(), SubscriptionError> {
    ends_within(CLOSE_PATIENCE, closing)
}

fn close_panicked(text: &str) -> SubscriptionError {
    SubscriptionError::Internal(format!(
        "the thread that closes the client panicked: {text}"
    ))
}

/// Closes on a thread of its own, so that the subscription ends also where the client does not:
/// then that thread stays, with the client's threads and connections, until the process ends.
fn ends_within(
    patience: Duration,
    closing: impl FnOnce() + Send + 'static,
) -> Result<(), SubscriptionError> {
    let (done, is_done) = sync_channel(1);
    let closing = move || {
        // Its receiver is gone where this took too long.
        let _ = done.send(panics::caught(closing));
    };
    let thread = std::thread::Builder::new()
        .name("keylane-close".to_owned())
        .spawn(closing);
    if let Err(error) = thread {
        // The closure was dropped, and the loop with it.
        tracing::debug!(%error, "no thread to close the client on; it was closed by the polling thread");
        return Ok(());
    }
    match is_done.recv_timeout(patience) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(text)) => Err(close_panicked(&text)),
        Err(RecvTimeoutError::Disconnected) => Err(close_panicked("(no message)")),
        Err(RecvTimeoutError::Timeout) => Err(SubscriptionError::CloseTimedOut(patience)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_client_that_does_not_close_keeps_no_subscription_from_its_end() {
        const LONG: Duration = Duration::from_secs(60);
        let (let_go, is_let_go) = channel::<()>();
        let (ended, has_ended) = channel();
        let patience = Duration::from_millis(10);
        let result = ends_within(patience, move || {
            let _ = is_let_go.recv();
            let _ = ended.send(());
        });
        assert!(
            matches!(result, Err(SubscriptionError::CloseTimedOut(waited)) if waited == patience),
            "{result:?}"
        );
        drop(let_go);
        assert_eq!(has_ended.recv_timeout(LONG), Ok(()), "its thread went on");
        assert!(ends_within(LONG, || {}).is_ok());
        let panicked = ends_within(LONG, || panic!("boom"))
            .unwrap_err()
            .to_string();
        assert!(
            panicked.ends_with("the thread that closes the client panicked: boom"),
            "{panicked}"
        );
    }
}
