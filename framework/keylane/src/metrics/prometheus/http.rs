//! A small HTTP server on a thread of its own, which answers scrapes and keeps the recorder tidy.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::recorder::PrometheusHandle;

/// Scrapers at a time; further ones wait to be accepted.
const CONNECTIONS: usize = 32;
/// For sending the head of a request, and so for an idle connection that is kept open.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// For a whole connection: a reader that takes no bytes cannot hold its place for ever.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(600);
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// After a failed accept, which is mostly the lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

const TEXT_FORMAT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const PLAIN_TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// A listener that is ready to be served.
pub(super) struct Server {
    runtime: Runtime,
    listener: TcpListener,
    handle: PrometheusHandle,
}

impl Server {
    /// `listener` must be non-blocking.
    pub(super) fn new(listener: std::net::TcpListener, handle: PrometheusHandle) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let guard = runtime.enter();
        let listener = TcpListener::from_std(listener)?;
        drop(guard);
        Ok(Self { runtime, listener, handle })
    }

    /// Serves until the process ends.
    pub(super) fn start(self) -> io::Result<()> {
        let Self { runtime, listener, handle } = self;
        let serve = move || {
            runtime.block_on(async {
                tokio::join!(keep_up(handle.clone()), accept(listener, handle));
            });
        };
        thread::Builder::new().name("keylane-metrics".to_owned()).spawn(serve).map(drop)
    }
}

async fn keep_up(handle: PrometheusHandle) {
    let mut ticks = interval(UPKEEP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        handle.run_upkeep();
    }
}

async fn accept(listener: TcpListener, handle: PrometheusHandle) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let handle = handle.clone();
                tokio::spawn(async move {
                    let _place = place;
                    serve(stream, handle).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to the metrics endpoint");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, handle: PrometheusHandle) {
    let service = service_fn(move |request| {
        let response = respond(&request, &handle);
        async { Ok::<_, Infallible>(response) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    match timeout(CONNECTION_TIMEOUT, server.serve_connection(TokioIo::new(stream), service)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection to the metrics endpoint ended early"),
        Err(_) => tracing::debug!("a connection to the metrics endpoint took too long"),
    }
}

/// Renders on this thread, which has nothing else to do.
fn respond(request: &Request<Incoming>, handle: &PrometheusHandle) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = answer(StatusCode::METHOD_NOT_ALLOWED, PLAIN_TEXT, "only GET and HEAD\n".to_owned());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/" | "/metrics" => answer(StatusCode::OK, TEXT_FORMAT, handle.render()),
        _ => answer(StatusCode::NOT_FOUND, PLAIN_TEXT, "metrics are at /metrics\n".to_owned()),
    }
}

fn answer(status: StatusCode, content_type: HeaderValue, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
