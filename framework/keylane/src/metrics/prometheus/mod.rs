//! The metrics for Prometheus, with one call.

mod cells;
mod http;
mod recorder;
mod registry;

use std::io;
use std::net::{AddrParseError, IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::str::FromStr;

pub use recorder::{PrometheusHandle, PrometheusRecorder, PrometheusRecorderBuilder};

/// Serves the metrics of the process over HTTP, for Prometheus to scrape.
///
/// Installs the process's metrics recorder, so call it once, before the first subscription or
/// producer starts. A plain port listens on loopback only; to be reached from elsewhere, name the
/// address. Port 0 takes a free one, which [`PrometheusEndpoint::local_addr`] returns. `GET
/// /metrics` (or `/`) answers in the text format.
///
/// The endpoint has a thread of its own, so it answers while the rest of the process is busy. It
/// lasts as long as the process. There is no authentication and no TLS. It also serves what the
/// process itself records through the `metrics` facade (histograms as summaries).
///
/// Gauges of a partition that was given up are gone from the next scrape on. Its counters and
/// histograms follow five minutes later, so that their last increase is still scraped.
///
/// # Errors
/// [`PrometheusError::Bind`] if the address cannot be listened on,
/// [`PrometheusError::RecorderInstalled`] if the process has a recorder already,
/// [`PrometheusError::Start`] if there is no thread to be had.
///
/// # Examples
/// ```
/// let endpoint = keylane::metrics::serve_prometheus(0)?;
/// println!("metrics: http://{}/metrics", endpoint.local_addr());
/// # Ok::<(), keylane::metrics::PrometheusError>(())
/// ```
/// A port or an address from the environment:
/// ```no_run
/// use keylane::metrics::{ListenAddress, serve_prometheus};
///
/// let address = std::env::var("METRICS_ADDRESS").unwrap_or_else(|_| "0.0.0.0:9464".into());
/// serve_prometheus(address.parse::<ListenAddress>()?)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn serve_prometheus(
    address: impl Into<ListenAddress>,
) -> Result<PrometheusEndpoint, PrometheusError> {
    let ListenAddress(address) = address.into();
    // Listening first: what fails often must not leave a recorder behind.
    let bind = |source| PrometheusError::Bind { address, source };
    let listener = TcpListener::bind(address).map_err(bind)?;
    listener.set_nonblocking(true).map_err(bind)?;
    let local_addr = listener.local_addr().map_err(bind)?;

    let recorder = PrometheusRecorder::builder().build();
    let handle = recorder.handle();
    let server = http::Server::new(listener, handle.clone()).map_err(PrometheusError::Start)?;
    ::metrics::set_global_recorder(recorder).map_err(|_| PrometheusError::RecorderInstalled)?;
    server.start().map_err(PrometheusError::Start)?;
    Ok(PrometheusEndpoint { local_addr, handle })
}

/// Where to listen. Made from a port (on loopback), or from an address with a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenAddress(SocketAddr);

impl From<u16> for ListenAddress {
    fn from(port: u16) -> Self {
        Self(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
    }
}

impl<I: Into<IpAddr>> From<(I, u16)> for ListenAddress {
    fn from(address: (I, u16)) -> Self {
        Self(address.into())
    }
}

/// A port (`9464`: loopback only), or an address with a port (`0.0.0.0:9464`, `[::]:9464`).
impl FromStr for ListenAddress {
    type Err = AddrParseError;

    fn from_str(text: &str) -> Result<Self, AddrParseError> {
        match text.parse::<u16>() {
            Ok(port) => Ok(port.into()),
            Err(_) => text.parse().map(Self),
        }
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self(address)
    }
}

/// A running endpoint. Dropping it changes nothing: it serves until the process ends.
#[derive(Clone, Debug)]
pub struct PrometheusEndpoint {
    local_addr: SocketAddr,
    handle: PrometheusHandle,
}

impl PrometheusEndpoint {
    /// The address it listens on, with the port it was given.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What a scrape would see now.
    pub fn handle(&self) -> &PrometheusHandle {
        &self.handle
    }
}

/// Why the endpoint could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrometheusError {
    /// The address is taken, not of this machine, or not allowed.
    #[error("cannot serve metrics on {address}: choose another port, or 0 for a free one")]
    Bind {
        /// The configured address.
        address: SocketAddr,
        /// The operating system's error.
        source: io::Error,
    },
    /// A process has one recorder, and there is one.
    #[error(
        "cannot install the metrics recorder, this process has one already: call serve_prometheus \
         once and before any other recorder is installed, or build PrometheusRecorder into yours"
    )]
    RecorderInstalled,
    /// No thread, or no timer and poller for it.
    #[error("cannot start the thread that serves metrics: check the limits of the process")]
    Start(#[source] io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_port_on_loopback_or_a_whole_one() {
        let read = |text: &str| text.parse().ok().map(|ListenAddress(it)| it.to_string());
        for (text, address) in [
            ("9464", "127.0.0.1:9464"),
            ("0.0.0.0:9464", "0.0.0.0:9464"),
            ("[::]:0", "[::]:0"),
        ] {
            assert_eq!(read(text).as_deref(), Some(address));
        }
        for text in ["", "70000", "localhost:1", "0.0.0.0"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
