//! The signals to end: Ctrl-C of a user, SIGTERM of a supervisor.

use std::future::pending;

use tokio_util::sync::CancellationToken;

/// A token for the first Ctrl-C or SIGTERM. A second Ctrl-C does not wait.
pub(crate) fn token() -> CancellationToken {
    let token = CancellationToken::new();
    let interrupt = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = ctrl_c() => {}
            () = terminated() => {}
        }
        interrupt.cancel();
        eprintln!("\nfinishing what has started; press Ctrl-C again to leave at once");
        ctrl_c().await;
        std::process::exit(130);
    });
    token
}

async fn ctrl_c() {
    // Without a handler for the signal it ends the process by itself.
    if tokio::signal::ctrl_c().await.is_err() {
        pending::<()>().await;
    }
}

/// The signal of `docker stop`, Kubernetes and systemd. Process 1 of a container ignores it unless
/// it is handled, and is killed later, in the middle of its work.
#[cfg(unix)]
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};

    match signal(SignalKind::terminate()) {
        Ok(mut signals) => {
            signals.recv().await;
        }
        Err(_) => pending::<()>().await,
    }
}

#[cfg(not(unix))]
async fn terminated() {
    pending::<()>().await;
}
