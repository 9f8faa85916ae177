//! A push gateway over HTTP that behaves like a real one on a bad day: slow, sometimes busy, strict
//! about devices. It keeps a [journal] of what it saw, which is what the report is checked against:
//! the far end cannot be fooled.

pub(crate) mod journal;
pub(crate) mod order;
mod server;

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::tally::Tally;
use crate::trouble::Trouble;
use journal::Journal;

/// The body of `POST /notifications`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Notification {
    pub(crate) device: String,
    pub(crate) text: String,
    /// These three name the notification, so that the journal can distinguish a repetition from a
    /// new one.
    pub(crate) run: String,
    pub(crate) vehicle: String,
    pub(crate) seq: u32,
}

pub(crate) const PATH: &str = "/notifications";
pub(crate) const ACCEPTED: StatusCode = StatusCode::ACCEPTED;
pub(crate) const BUSY: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
pub(crate) const UNKNOWN_DEVICE: StatusCode = StatusCode::NOT_FOUND;

/// A running gateway. Dropping it finishes the requests under way and closes the port.
pub(crate) struct Gateway {
    address: SocketAddr,
    journal: Arc<Journal>,
    _stop: oneshot::Sender<()>,
}

impl Gateway {
    /// Serves on a free port of 127.0.0.1. Counts what it accepts of `run` into `tally`.
    pub(crate) async fn start(
        run: &str,
        devices: HashSet<String>,
        trouble: Trouble,
        tally: Arc<Tally>,
    ) -> io::Result<Self> {
        let journal = Arc::new(Journal::default());
        let desk = server::Desk {
            run: run.to_owned(),
            devices,
            trouble,
            journal: journal.clone(),
            tally,
        };
        let (stop, stopped) = oneshot::channel();
        let address = server::serve(desk, stopped).await?;
        Ok(Self {
            address,
            journal,
            _stop: stop,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }
}
