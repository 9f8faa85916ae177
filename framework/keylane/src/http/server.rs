//! The server: building, starting, stopping.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, RwLock};
use std::thread;
use std::time::Duration;

use hyper_util::service::TowerToHyperService;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use super::access::{Hosts, Token};
use super::routes::{self, Shared};
use crate::connections::{self, Bounds};
use crate::support::lock;
use crate::{State, SubscriptionHandle};

/// More than twice what a polling thread waits for at most, slow brokers at an assignment.
const POLLING_LIMIT: Duration = Duration::from_secs(30);

/// A running admin server; see [the module](super).
///
/// It serves until it is dropped or [shut down](Self::shutdown), on a thread of its own.
#[derive(Debug)]
#[must_use = "dropping the server stops it"]
pub struct AdminServer {
    local_addr: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
    stopped: CancellationToken,
}

/// Puts an [`AdminServer`] together. Everything has a default: a free port of the loopback,
/// read-only.
///
/// # Examples
/// ```
/// use keylane::http::AdminServer;
///
/// let admin = AdminServer::builder()
///     .port(0) // a free one
///     .token(std::env::var("ADMIN_TOKEN").unwrap_or_else(|_| "b3f1-4c2a-9d7e".into()))
///     .start()?;
/// println!("http://{}/health/ready", admin.local_addr());
/// # Ok::<(), keylane::http::AdminError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `start`"]
pub struct AdminServerBuilder {
    address: SocketAddr,
    token: Option<Token>,
    allowed_hosts: Vec<String>,
    polling_limit: Duration,
    subscriptions: Vec<SubscriptionHandle>,
    #[cfg(feature = "prometheus")]
    metrics: Option<crate::metrics::PrometheusHandle>,
}

impl Default for AdminServerBuilder {
    fn default() -> Self {
        Self {
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            token: None,
            allowed_hosts: Vec::new(),
            polling_limit: POLLING_LIMIT,
            subscriptions: Vec::new(),
            #[cfg(feature = "prometheus")]
            metrics: None,
        }
    }
}

impl AdminServer {
    /// Starts describing a server.
    pub fn builder() -> AdminServerBuilder {
        AdminServerBuilder::default()
    }

    /// The address it listens on, with the port it was given.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves one more subscription from now on. One of the same name that has ended makes way for
    /// it.
    ///
    /// # Errors
    /// [`AdminError::DuplicateName`] where one of this name still runs.
    pub fn add(&self, subscription: SubscriptionHandle) -> Result<(), AdminError> {
        let mut all = lock::write(&self.shared.subscriptions);
        add(&mut all, subscription)
    }

    /// Serves the subscription of this name no longer; `false` where there is none. For one that
    /// has ended and will not come back: until it is taken out it is listed, and one that has
    /// failed keeps the process from being alive.
    ///
    /// # Examples
    /// ```
    /// use keylane::http::AdminServer;
    ///
    /// let admin = AdminServer::builder().start()?;
    /// assert!(!admin.remove("not-there"));
    /// # Ok::<(), keylane::http::AdminError>(())
    /// ```
    pub fn remove(&self, name: &str) -> bool {
        let mut all = lock::write(&self.shared.subscriptions);
        let before = all.len();
        all.retain(|there| there.name() != name);
        all.len() < before
    }

    /// Stops listening, lets what is being answered finish (10 s at most), and returns when the
    /// thread is done.
    ///
    /// Cancel-safe: the server stops all the same.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.stopped.cancelled().await;
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn add(
    all: &mut Vec<SubscriptionHandle>,
    subscription: SubscriptionHandle,
) -> Result<(), AdminError> {
    all.retain(|there| {
        there.name() != subscription.name()
            || !matches!(there.state(), State::Stopped | State::Failed)
    });
    if all.iter().any(|there| there.name() == subscription.name()) {
        return Err(AdminError::DuplicateName {
            name: subscription.name().to_owned(),
        });
    }
    all.push(subscription);
    Ok(())
}

impl AdminServerBuilder {
    /// Listens on this port of the loopback (default 0: a free one, which
    /// [`AdminServer::local_addr`] tells).
    pub fn port(self, port: u16) -> Self {
        self.address((Ipv4Addr::LOCALHOST, port))
    }

    /// Listens on this address. Beyond the loopback everybody who can reach it can read state and
    /// health, under any `Host`; there is no TLS.
    ///
    /// # Examples
    /// ```
    /// use std::net::Ipv4Addr;
    ///
    /// use keylane::http::AdminServer;
    ///
    /// let in_a_container = AdminServer::builder().address((Ipv4Addr::UNSPECIFIED, 8081));
    /// # let _ = in_a_container;
    /// ```
    pub fn address(mut self, address: impl Into<SocketAddr>) -> Self {
        self.address = address.into();
        self
    }

    /// Allows pausing, resuming and shutting down to requests with `Authorization: Bearer <token>`.
    /// Without it they are refused.
    ///
    /// Take a long random one. It is never shown or logged.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(Token::new(token.into()));
        self
    }

    /// One more name, without a port, that requests may have as their `Host`: that of a proxy in
    /// front, say. Besides, requests may have an address, which leads nowhere else, and the
    /// loopback's names. Beyond the loopback any name will do until one is given here.
    pub fn allowed_host(mut self, name: impl Into<String>) -> Self {
        self.allowed_hosts.push(name.into());
        self
    }

    /// How long a polling thread may take for one turn before the process counts as not alive
    /// (default 30 s). Slow brokers may keep it for 12 s at an assignment. The brokers' own
    /// patience is `max.poll.interval.ms`, 5 min by default.
    pub fn polling_limit(mut self, limit: Duration) -> Self {
        self.polling_limit = limit;
        self
    }

    /// One more subscription to serve. More can be [added](AdminServer::add) to the running server.
    pub fn subscription(mut self, subscription: SubscriptionHandle) -> Self {
        self.subscriptions.push(subscription);
        self
    }

    /// Serves the metrics at `/metrics`, too: those of
    /// [`PrometheusEndpoint::handle`](crate::metrics::PrometheusEndpoint::handle), or of a recorder
    /// of your own.
    #[cfg(feature = "prometheus")]
    pub fn metrics(mut self, metrics: crate::metrics::PrometheusHandle) -> Self {
        self.metrics = Some(metrics);
        self
    }

    /// Listens and serves.
    ///
    /// # Errors
    /// [`AdminError::Token`] or [`AdminError::DuplicateName`] where the description cannot work,
    /// [`AdminError::Bind`] if the address cannot be listened on, [`AdminError::Start`] if there is
    /// no thread to be had.
    pub fn start(self) -> Result<AdminServer, AdminError> {
        if self.token.as_ref().is_some_and(|token| !token.is_usable()) {
            return Err(AdminError::Token);
        }
        let mut subscriptions = Vec::new();
        self.subscriptions
            .into_iter()
            .try_for_each(|subscription| add(&mut subscriptions, subscription))?;

        let address = self.address;
        let bind = |source| AdminError::Bind { address, source };
        let listener = TcpListener::bind(address).map_err(bind)?;
        listener.set_nonblocking(true).map_err(bind)?;
        let local_addr = listener.local_addr().map_err(bind)?;

        let checked =
            local_addr.ip().to_canonical().is_loopback() || !self.allowed_hosts.is_empty();
        let shared = Arc::new(Shared {
            subscriptions: RwLock::new(subscriptions),
            token: self.token,
            hosts: Hosts {
                checked,
                allowed: self.allowed_hosts,
            },
            polling_limit: self.polling_limit,
            #[cfg(feature = "prometheus")]
            metrics: self.metrics,
        });
        let server = AdminServer {
            local_addr,
            shared: shared.clone(),
            stop: CancellationToken::new(),
            stopped: CancellationToken::new(),
        };
        let (stop, stopped) = (server.stop.clone(), server.stopped.clone());
        let (tell, told) = sync_channel(1);
        // The runtime is made there: dropped in a caller's runtime, as by a failed start, it would
        // panic.
        let serve = move || {
            // However the thread ends.
            let _stopped = stopped.drop_guard();
            match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => {
                    let _ = tell.send(Ok(()));
                    serve(&runtime, listener, shared, stop);
                }
                Err(error) => drop(tell.send(Err(error))),
            }
        };
        thread::Builder::new()
            .name("keylane-admin".to_owned())
            .spawn(serve)
            .map_err(AdminError::Start)?;
        told.recv()
            .map_err(io::Error::other)
            .and_then(|made| made)
            .map_err(AdminError::Start)?;
        Ok(server)
    }
}

fn serve(runtime: &Runtime, listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    let served = runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let service = TowerToHyperService::new(routes::router(shared));
        connections::serve(listener, "admin", service, Bounds::default(), stop).await;
        Ok::<(), io::Error>(())
    });
    if let Err(error) = served {
        tracing::error!(%error, "the admin server cannot listen");
    }
}

/// Why the admin server could not be started, or a subscription not be added to it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// The address is taken, not of this machine, or not allowed.
    #[error(
        "cannot serve the admin interface on {address}: choose another port, or 0 for a free one"
    )]
    Bind {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },
    /// No thread, or no timer and poller for it.
    #[error(
        "cannot start the thread that serves the admin interface: check the limits of the process"
    )]
    Start(#[source] io::Error),
    /// Two subscriptions of one name could not be told apart.
    #[error(
        "there is a running subscription `{name}` already: give each its own name (SubscriptionBuilder::name)"
    )]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// The token is empty, or no header can carry it.
    #[error(
        "the admin token is empty or not plain ASCII without blanks: a line end read from a file has to be cut off"
    )]
    Token,
}
