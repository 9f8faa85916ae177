//! A process of a test: it ends with the test, however that ends.

use std::process::Child;

use rustix::{
    io,
    process::{Pid, Signal, kill_process},
};

/// Killed when it is dropped.
#[derive(Debug)]
pub struct Process {
    /// The process, with its pipes.
    pub child: Child,
}

impl Process {
    /// Sends it a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        kill_process(Pid::from_child(&self.child), signal)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
