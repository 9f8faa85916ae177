//! Work that is stuck until the test lets it go.

use std::time::Duration;

use tokio::sync::watch;

/// A gate that attempts wait at. Clones are the same gate.
#[derive(Debug, Clone)]
pub struct Gate(watch::Sender<bool>);

impl Gate {
    /// A closed gate.
    pub fn closed() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Lets everybody through, now and later.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns when the gate is open. Cancel-safe.
    pub async fn passed(&self) {
        // The sender lives in `self`, so the wait cannot fail.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }

    /// Blocks its thread until the gate is open.
    pub fn block(&self) {
        while !self.is_open() {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Opens the gate when the test ends, however it ends: a blocked thread would keep its runtime
    /// from ending.
    pub fn open_at_end(&self) -> OpenAtEnd {
        OpenAtEnd(self.clone())
    }
}

/// Opens a gate when it is dropped.
#[derive(Debug)]
pub struct OpenAtEnd(Gate);

impl Drop for OpenAtEnd {
    fn drop(&mut self) {
        self.0.open();
    }
}
