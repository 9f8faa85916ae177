//! A small HTTP server on a thread of its own, which answers scrapes and keeps the recorder tidy.

use std::convert::Infallible;
use std::io;
use std::thread;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use keylane_connections::Bounds;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::recorder::PrometheusHandle;

/// A scraper keeps its connection from scrape to scrape.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(600);
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

const TEXT_FORMAT: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const PLAIN_TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// A listener that is ready to be served.
pub(super) struct Server {
    runtime: Runtime,
    listener: TcpListener,
    handle: PrometheusHandle,
}

impl Server {
    /// `listener` must be non-blocking.
    pub(super) fn new(
        listener: std::net::TcpListener,
        handle: PrometheusHandle,
    ) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let guard = runtime.enter();
        let listener = TcpListener::from_std(listener)?;
        drop(guard);
        Ok(Self {
            runtime,
            listener,
            handle,
        })
    }

    /// Serves until the process ends.
    pub(super) fn start(self) -> io::Result<()> {
        let Self {
            runtime,
            listener,
            handle,
        } = self;
        let serve = move || {
            runtime.block_on(async {
                let keep_up =
                    keylane_connections::persistent("metrics", || keep_up(handle.clone()));
                tokio::join!(keep_up, serve(listener, handle.clone()));
            });
        };
        thread::Builder::new()
            .name("keylane-metrics".to_owned())
            .spawn(serve)
            .map(drop)
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

async fn serve(listener: TcpListener, handle: PrometheusHandle) {
    let service = service_fn(move |request| {
        let response = respond(&request, &handle);
        async { Ok::<_, Infallible>(response) }
    });
    let bounds = Bounds {
        head: HEAD_TIMEOUT,
        connection: CONNECTION_TIMEOUT,
        ..Bounds::default()
    };
    keylane_connections::serve(
        listener,
        "metrics",
        service,
        bounds,
        CancellationToken::new(),
    )
    .await;
}

/// Renders on this thread, which has nothing else to do.
fn respond(request: &Request<Incoming>, handle: &PrometheusHandle) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = answer(
            StatusCode::METHOD_NOT_ALLOWED,
            PLAIN_TEXT,
            "only GET and HEAD\n".to_owned(),
        );
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/" | "/metrics" => answer(StatusCode::OK, TEXT_FORMAT, handle.render()),
        _ => answer(
            StatusCode::NOT_FOUND,
            PLAIN_TEXT,
            "metrics are at /metrics\n".to_owned(),
        ),
    }
}

fn answer(status: StatusCode, content_type: HeaderValue, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
