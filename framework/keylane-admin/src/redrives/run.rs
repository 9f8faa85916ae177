//! One redrive of this server, as it is seen from requests.

use std::time::Duration;

use keylane::redrive::ops::TaskState;
use keylane::redrive::{Ended, RedriveProgress, RedriveTaskError};
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A redrive of this server.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) subscription: String,
    pub(super) seen: watch::Receiver<Here>,
    /// When the thread has ended.
    pub(super) over: CancellationToken,
}

/// How a redrive of this server stands.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Here {
    pub(crate) task: String,
    topic: String,
    pub(crate) phase: Phase,
    done: u64,
    of: u64,
    gone: u64,
    refused: u64,
    /// Why it has failed or ended, where there is a reason.
    pub(crate) text: Option<String>,
    #[serde(skip)]
    pub(crate) error: Option<RedriveTaskError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// It reads the letters, or waits for its lock. Nothing was copied by this run.
    Starting,
    Running,
    AwaitsCanary,
    /// Stopped, and to be resumed.
    Stopped,
    Ended,
    Failed,
}

impl Phase {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 6] = [
        Self::Starting,
        Self::Running,
        Self::AwaitsCanary,
        Self::Stopped,
        Self::Ended,
        Self::Failed,
    ];
}

impl Run {
    pub(crate) fn here(&self) -> Here {
        self.seen.borrow().clone()
    }

    /// How it stands when it has begun, or was refused; or as it stands then.
    pub(crate) async fn begun(&self, within: Duration) -> Here {
        let mut seen = self.seen.clone();
        let begun = seen.wait_for(|here| here.phase != Phase::Starting);
        match tokio::time::timeout(within, begun).await {
            Ok(Ok(here)) => here.clone(),
            _ => self.here(),
        }
    }
}

impl Here {
    pub(super) fn new(task: String, topic: String) -> Self {
        Self {
            task,
            topic,
            phase: Phase::Starting,
            done: 0,
            of: 0,
            gone: 0,
            refused: 0,
            text: None,
            error: None,
        }
    }

    pub(super) fn progress(&mut self, progress: &RedriveProgress) {
        self.phase = match progress.awaits_canary {
            true => Phase::AwaitsCanary,
            false => Phase::Running,
        };
        self.count(progress);
    }

    fn count(&mut self, progress: &RedriveProgress) {
        (self.done, self.of) = (progress.done, progress.turns);
        (self.gone, self.refused) = (progress.gone, progress.refused);
    }

    pub(super) fn end(&mut self, ended: Result<Ended, RedriveTaskError>) {
        match ended {
            Ok(ended) => {
                self.count(&ended.progress);
                let is_stopped = ended.state == TaskState::Running;
                (self.phase, self.text) = match is_stopped {
                    true => (Phase::Stopped, Some("it was stopped: resume it".to_owned())),
                    false => (Phase::Ended, ended.reason),
                };
            }
            Err(error) => {
                let text = error.to_string();
                tracing::warn!(
                    task = self.task,
                    error = text,
                    "a redrive over HTTP has failed"
                );
                (self.phase, self.text, self.error) = (Phase::Failed, Some(text), Some(error));
            }
        }
    }
}
