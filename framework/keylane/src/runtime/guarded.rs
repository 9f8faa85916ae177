//! Our own tasks: a panic of one ends the subscription. Unreported, an owner would wait for its
//! answer for ever.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use tokio::runtime::Handle;

use crate::status::{Control, SubscriptionError};
use crate::support::panics;

/// Runs a future to its end; a panic ends the subscription with an error that names `who`. What the
/// future borrows is still there by then.
pub(super) async fn guarded(
    control: &Control,
    who: impl FnOnce() -> String,
    future: impl Future<Output = ()>,
) {
    if let Err(payload) = AssertUnwindSafe(future).catch_unwind().await {
        let error = format!("{} panicked: {}", who(), panics::text(payload));
        control.fail(SubscriptionError::Internal(error));
    }
}

/// Spawns a task for a partition.
pub(super) fn spawn(
    tokio: &Handle,
    control: Arc<Control>,
    (topic, partition): (Arc<str>, i32),
    task: impl Future<Output = ()> + Send + 'static,
) {
    tokio.spawn(async move {
        guarded(
            &control,
            || format!("a task of the owner of {topic}-{partition}"),
            task,
        )
        .await;
    });
}
