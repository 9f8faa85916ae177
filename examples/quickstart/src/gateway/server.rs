//! The gateway's side of HTTP.

use std::collections::HashSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::journal::{Acceptance, Answer, Journal};
use super::{ACCEPTED, BUSY, Notification, PATH, UNKNOWN_DEVICE};
use crate::tally::Tally;
use crate::trouble::Trouble;

/// The smallest wait that the header can carry: it counts whole seconds.
const RETRY_AFTER_SECONDS: &str = "1";

/// What a request handler needs.
pub(super) struct Desk {
    pub(super) run: String,
    pub(super) devices: HashSet<String>,
    pub(super) trouble: Trouble,
    pub(super) journal: Arc<Journal>,
    pub(super) tally: Arc<Tally>,
}

/// Serves until `stopped` resolves or its sender is dropped.
pub(super) async fn serve(desk: Desk, stopped: oneshot::Receiver<()>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let app = Router::new()
        .route(PATH, post(notify))
        .with_state(Arc::new(desk));
    let stopped = async { drop(stopped.await) };
    tokio::spawn(async move {
        axum::serve(listener, app)
            .with_graceful_shutdown(stopped)
            .await
    });
    Ok(address)
}

async fn notify(State(desk): State<Arc<Desk>>, Json(notification): Json<Notification>) -> Response {
    // Open from here until the answer is on its way. If the client hangs up, this handler is
    // dropped, and the entry closes as abandoned.
    let Notification {
        run,
        vehicle,
        seq,
        device,
        ..
    } = notification;
    let entry = desk.journal.open(&run, &vehicle, seq);
    tokio::time::sleep(desk.trouble.gateway_delay(&vehicle, seq, entry.nth())).await;

    if desk.trouble.gateway_is_busy(&vehicle, seq, entry.nth()) {
        entry.close(Answer::Busy);
        (BUSY, [(header::RETRY_AFTER, RETRY_AFTER_SECONDS)]).into_response()
    } else if !desk.devices.contains(&device) {
        entry.close(Answer::UnknownDevice);
        (UNKNOWN_DEVICE, format!("no device {device} is registered")).into_response()
    } else {
        match entry.close(Answer::Accepted) {
            Acceptance::First if run == desk.run => desk.tally.count_done(),
            Acceptance::First => desk.tally.count_leftover(),
            Acceptance::Not => {}
        }
        StatusCode::into_response(ACCEPTED)
    }
}
