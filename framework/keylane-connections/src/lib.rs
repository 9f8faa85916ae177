//! From a listener to HTTP requests, with bounds on everything a peer can make the server wait for.
//!
//! A part of keylane, shared by its Prometheus endpoint and by `keylane-admin`. It has no promise of
//! its own: use hyper, or axum, in its place.

use std::any::Any;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

type AnyError = Box<dyn Error + Send + Sync>;

/// What a peer may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections at a time; further ones wait to be accepted.
    pub connections: u32,
    /// The longest time for sending the head of a request, and so for an idle connection that is
    /// kept open.
    pub head: Duration,
    /// The largest head of a request.
    pub head_bytes: usize,
    /// The longest time of a whole connection: a reader that takes no bytes cannot hold its place
    /// without end.
    pub connection: Duration,
    /// The longest time for running answers when the connection or the server ends.
    pub grace: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: 32,
            head: Duration::from_secs(10),
            head_bytes: 16 * 1024,
            connection: Duration::from_secs(60),
            grace: Duration::from_secs(5),
        }
    }
}

/// Longer texts of panics are cut.
const LONGEST_TEXT: usize = 1_000;
/// After a failed accept, which is mostly the lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Serves until `stop`, then lets what is being answered finish. `name` is the server's in logs. A
/// panic, of a handler or of the server itself, is logged and costs a connection at most.
pub async fn serve<S, B>(
    listener: TcpListener,
    name: &'static str,
    service: S,
    bounds: Bounds,
    stop: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error: Into<AnyError>, Future: Send>
        + Clone
        + Send
        + 'static,
    B: Body<Data: Send, Error: Into<AnyError>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(bounds.connections as usize));
    let accepting = || {
        accept(&listener, name, &places, |stream, place| {
            let connection = connection(stream, name, service.clone(), bounds, stop.clone());
            tokio::spawn(async move {
                let _place = place;
                guarded(name, connection).await;
            });
        })
    };
    tokio::select! {
        () = persistent(name, accepting) => {}
        () = stop.cancelled() => {}
    }
    drop(listener);
    // With every place given back no connection is left. Those that are go with the runtime.
    let _ = timeout(bounds.grace * 2, places.acquire_many(bounds.connections)).await;
}

/// Begins again after a panic.
pub async fn persistent<F: Future<Output = ()>>(name: &'static str, work: impl Fn() -> F) {
    while guarded(name, work()).await.is_none() {
        sleep(ACCEPT_PAUSE).await;
    }
}

/// `None` after a panic.
async fn guarded<T>(name: &'static str, work: impl Future<Output = T>) -> Option<T> {
    let panicked = |payload| {
        tracing::error!(
            server = name,
            panic = text(payload),
            "a panic while serving"
        )
    };
    AssertUnwindSafe(work)
        .catch_unwind()
        .await
        .map_err(panicked)
        .ok()
}

/// The text of a payload, up to a bound.
fn text(payload: Box<dyn Any + Send>) -> String {
    let words = payload.downcast_ref::<&str>().copied();
    let words = words.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let text = words
        .unwrap_or("(no message)")
        .chars()
        .take(LONGEST_TEXT)
        .collect();
    // A payload can be of any type, also of one that panics when it is dropped.
    if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(another);
    }
    text
}

async fn accept(
    listener: &TcpListener,
    name: &'static str,
    places: &Arc<Semaphore>,
    start: impl Fn(TcpStream, tokio::sync::OwnedSemaphorePermit),
) {
    while let Ok(place) = places.clone().acquire_owned().await {
        let accepted = listener.accept().await;
        #[cfg(test)]
        if let Ok(address) = listener.local_addr() {
            tests::panic_if_planted(address);
        }
        match accepted {
            Ok((stream, _)) => start(stream, place),
            Err(error) => {
                tracing::warn!(server = name, %error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection<S, B>(
    stream: TcpStream,
    name: &'static str,
    service: S,
    bounds: Bounds,
    stop: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error: Into<AnyError>>,
    B: Body<Data: Send, Error: Into<AnyError>> + 'static,
{
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(bounds.head)
        .max_buf_size(bounds.head_bytes);
    let connection = http.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = sleep(bounds.connection) => None,
        () = stop.cancelled() => None,
    };
    let ended = match ended {
        Some(ended) => Ok(ended),
        None => {
            connection.as_mut().graceful_shutdown();
            timeout(bounds.grace, connection).await
        }
    };
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::debug!(server = name, error = %error, "a connection ended early")
        }
        Err(_) => tracing::debug!(server = name, "a connection took too long"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Mutex;

    use axum::Router;
    use axum::routing::get;
    use hyper_util::service::TowerToHyperService;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// The server that panics at its next connection.
    static PLANTED: Mutex<Option<SocketAddr>> = Mutex::new(None);

    pub(super) fn panic_if_planted(address: SocketAddr) {
        let planted = PLANTED.lock().unwrap().take_if(|it| *it == address);
        assert!(planted.is_none(), "boom");
    }

    const PATIENCE: Duration = Duration::from_secs(30);
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

    async fn start(bounds: Bounds) -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let panics = async || -> &'static str { panic!("a handler") };
        let routes = Router::new()
            .route("/", get(|| async { "here" }))
            .route("/panic", get(panics));
        let service = TowerToHyperService::new(routes);
        (
            address,
            stop.clone(),
            tokio::spawn(serve(listener, "test", service, bounds, stop)),
        )
    }

    async fn read(stream: &mut TcpStream) -> Vec<u8> {
        let mut answer = vec![0; 1_000];
        let length = timeout(PATIENCE, stream.read(&mut answer))
            .await
            .unwrap()
            .unwrap();
        answer.truncate(length);
        answer
    }

    #[tokio::test]
    async fn who_sends_nothing_holds_a_place_until_its_time_is_up() {
        let bounds = Bounds {
            connections: 1,
            head: Duration::from_millis(300),
            ..Bounds::default()
        };
        let (address, ..) = start(bounds).await;
        let silent = TcpStream::connect(address).await.unwrap();
        let mut other = TcpStream::connect(address).await.unwrap();
        other.write_all(REQUEST).await.unwrap();
        assert!(read(&mut other).await.starts_with(b"HTTP/1.1 200 OK\r\n"));
        // There was no place for it before, so the silent one has been closed by now. This read
        // does not wait.
        let mut silent = silent.into_std().unwrap();
        assert!(std::io::Read::read_to_end(&mut silent, &mut Vec::new()).is_ok());
    }

    #[tokio::test]
    async fn a_head_without_end_is_refused() {
        let (address, ..) = start(Bounds::default()).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
            .await
            .unwrap();
        // It may refuse before everything is sent.
        let _ = stream.write_all(&vec![b'x'; 64 * 1024]).await;
        let answer = timeout(PATIENCE, async {
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            answer
        });
        assert!(!answer.await.unwrap().starts_with(b"HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn a_panic_of_a_handler_or_of_the_server_costs_a_connection_at_most() {
        // A place that a panic kept would be missed.
        let (address, stop, served) = start(Bounds {
            connections: 1,
            ..Bounds::default()
        })
        .await;
        for planted in [false, true, false] {
            if planted {
                *PLANTED.lock().unwrap() = Some(address);
            }
            let mut stream = TcpStream::connect(address).await.unwrap();
            // The server may have closed it already.
            let _ = stream
                .write_all(b"GET /panic HTTP/1.1\r\nHost: localhost\r\n\r\n")
                .await;
            assert_eq!(
                stream.read(&mut [0; 10]).await.unwrap_or(0),
                0,
                "closed without an answer"
            );
        }
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(REQUEST).await.unwrap();
        assert!(read(&mut stream).await.starts_with(b"HTTP/1.1 200 OK\r\n"));
        stop.cancel();
        timeout(PATIENCE, served).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn it_stops_with_idle_connections_and_listens_no_longer() {
        let (address, stop, served) = start(Bounds {
            head: PATIENCE * 10,
            ..Bounds::default()
        })
        .await;
        let mut idle = TcpStream::connect(address).await.unwrap();
        idle.write_all(REQUEST).await.unwrap();
        assert!(read(&mut idle).await.starts_with(b"HTTP/1.1 200 OK\r\n"));
        stop.cancel();
        timeout(PATIENCE, served).await.unwrap().unwrap();
        assert!(TcpStream::connect(address).await.is_err());
        assert_eq!(read(&mut idle).await, b"");
    }
}
