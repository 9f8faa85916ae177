//! Members on threads of their own, for processors that block the thread they run on.

#![allow(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "helpers of tests stop the test as the tests do"
)]

use bytes::Bytes;
use keylane::subscription::SubscriptionBuilder;
use keylane::{Processor, Raw, Subscription};
use tokio::runtime::{Builder, Runtime};

/// A runtime beside that of the test.
#[derive(Debug)]
pub struct Threads(Option<Runtime>);

impl Threads {
    /// This number of threads.
    pub fn new(count: usize) -> Self {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(count).enable_all().build();
        Self(Some(runtime.unwrap()))
    }

    /// Starts a member there.
    pub async fn start(
        &self,
        builder: SubscriptionBuilder,
        processor: impl Processor<Bytes>,
    ) -> Subscription {
        let runtime = self.0.as_ref().unwrap();
        let started = runtime.spawn(builder.start(Raw, processor));
        started.await.unwrap().unwrap()
    }

    /// Returns when all threads have ended.
    pub async fn end(mut self) {
        let runtime = self.0.take();
        tokio::task::spawn_blocking(move || drop(runtime))
            .await
            .unwrap();
    }
}

impl Drop for Threads {
    /// Of a test that fails: a runtime that waits must not be dropped among asynchronous code.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
