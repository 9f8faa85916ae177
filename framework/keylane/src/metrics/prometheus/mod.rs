//! The metrics for Prometheus, with one call.

mod cells;
mod http;
mod recorder;
mod registry;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use metrics_util::MetricKindMask;

pub use recorder::{PrometheusHandle, PrometheusRecorder};

use super::names::{ALL, MetricKind};

/// Serves the metrics of the process over HTTP, for Prometheus to scrape.
///
/// Installs the process's metrics recorder, so call it once, before the first subscription or
/// producer starts. A plain port listens on loopback only; to be reached from elsewhere, name the
/// address. Port 0 takes a free one: [`PrometheusEndpoint::local_addr`] tells which. `GET /metrics`
/// (or `/`) answers in the text format.
///
/// The endpoint has a thread of its own, so it answers while the rest of the process is busy, and
/// it lasts as long as the process. There is no authentication and no TLS. It also serves what the
/// process itself records through the `metrics` facade (histograms as summaries).
///
/// Gauges of a partition that was given up are gone from the next scrape on; its counters and
/// histograms follow five minutes later, so that their last increase is still seen.
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
pub fn serve_prometheus(
    address: impl Into<ListenAddress>,
) -> Result<PrometheusEndpoint, PrometheusError> {
    let ListenAddress(address) = address.into();
    // Listening first: what fails often must not leave a recorder behind.
    let bind = |source| PrometheusError::Bind { address, source };
    let listener = TcpListener::bind(address).map_err(bind)?;
    listener.set_nonblocking(true).map_err(bind)?;
    let local_addr = listener.local_addr().map_err(bind)?;

    let recorder = prometheus_recorder(PrometheusBuilder::new());
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
        /// The address that was asked for.
        address: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },
    /// A process has one recorder, and there is one.
    #[error(
        "cannot install the metrics recorder, this process has one already: call serve_prometheus once and before any \
         other recorder is installed, or build prometheus_recorder into yours"
    )]
    RecorderInstalled,
    /// No thread, or no timer and poller for it.
    #[error("cannot start the thread that serves metrics: check the limits of the process")]
    Start(#[source] io::Error),
}

/// The recorder behind [`serve_prometheus`], to be served or combined by yourself.
///
/// It keeps keylane's own metrics exactly and at a bounded size, and hands every other metric to
/// the recorder that `others` builds. Render both with [`PrometheusRecorder::handle`]; call
/// [`PrometheusHandle::run_upkeep`] every few seconds if the process records histograms of its own.
/// The HTTP listener of `others` is not used.
///
/// # Examples
/// ```
/// use metrics_exporter_prometheus::PrometheusBuilder;
///
/// let recorder = keylane::metrics::prometheus_recorder(PrometheusBuilder::new().add_global_label("app", "parking"));
/// let handle = recorder.handle();
/// metrics::set_global_recorder(recorder).expect("the first recorder");
/// metrics::counter!("requests_total").increment(1);
/// assert!(handle.render().contains("requests_total{app=\"parking\"} 1"));
/// ```
pub fn prometheus_recorder(others: PrometheusBuilder) -> PrometheusRecorder {
    PrometheusRecorder::new(others)
}

/// A builder of the plain exporter with keylane's buckets and an idle time-out, for those who want
/// nothing in between.
///
/// Prefer [`prometheus_recorder`]. With the plain exporter histograms hold a selection of the
/// samples at high rates (see [the module](super)), and series of a given-up partition stay (gauges
/// at 0) until nothing has touched them for two minutes. Upkeep must run, as its documentation
/// says: `install` sees to that.
pub fn prometheus_builder() -> PrometheusBuilder {
    ALL.iter()
        .filter(|metric| metric.kind == MetricKind::Histogram)
        .fold(
            PrometheusBuilder::new().idle_timeout(MetricKindMask::ALL, Some(IDLE_TIMEOUT)),
            |builder, metric| {
                builder
                    .set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), metric.buckets)
                    .expect("every histogram of the table has buckets")
            },
        )
}

/// Many times the interval at which live series are touched, so that a busy moment does not lose
/// one.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
