//! What a server, or a router, is put together from.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use keylane::SubscriptionHandle;

use crate::access::{Hosts, Token};
use crate::acts::ACT_TIMEOUT;
use crate::dead_letters::PATIENCE;
use crate::redrives::Redrives;
use crate::routes::{Metrics, Shared};
use crate::served::{AllServed, Served};
use crate::{AdminError, AdminRoutes, AdminServer};

/// More than twice what a polling thread waits for at most, slow brokers at an assignment.
const POLLING_LIMIT: Duration = Duration::from_secs(30);

/// Puts an [`AdminServer`] together, or [`AdminRoutes`] for a server of your own. Everything has a
/// default: a free port of the loopback, read-only.
///
/// # Examples
/// ```
/// use keylane_admin::AdminServer;
///
/// let admin = AdminServer::builder()
///     .port(0) // a free one
///     .token(std::env::var("ADMIN_TOKEN").unwrap_or_else(|_| "b3f1-4c2a-9d7e".into()))
///     .start()?;
/// println!("http://{}/health/ready", admin.local_addr());
/// # Ok::<(), keylane_admin::AdminError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `start` or `routes`"]
pub struct AdminServerBuilder {
    address: SocketAddr,
    token: Option<Token>,
    allowed_hosts: Vec<String>,
    polling_limit: Duration,
    subscriptions: Vec<Arc<dyn Served>>,
    metrics: Option<Metrics>,
}

impl Default for AdminServerBuilder {
    fn default() -> Self {
        Self {
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            token: None,
            allowed_hosts: Vec::new(),
            polling_limit: POLLING_LIMIT,
            subscriptions: Vec::new(),
            metrics: None,
        }
    }
}

impl AdminServerBuilder {
    /// Listens on this port of the loopback (default 0: a free one, which
    /// [`AdminServer::local_addr`] returns).
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
    /// use keylane_admin::AdminServer;
    ///
    /// let in_a_container = AdminServer::builder().address((Ipv4Addr::UNSPECIFIED, 8081));
    /// # let _ = in_a_container;
    /// ```
    pub fn address(mut self, address: impl Into<SocketAddr>) -> Self {
        self.address = address.into();
        self
    }

    /// Allows pausing, resuming, shutting down, acts on keys and records, and redrives to requests
    /// with `Authorization: Bearer <token>`. Without it they are refused.
    ///
    /// Take a long random one. It is never shown or logged.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(Token::new(token.into()));
        self
    }

    /// One more name, without a port, that requests may have as their `Host`, for example that of a
    /// proxy in front. Requests may also have an IP address, which cannot be another site's name,
    /// and the loopback's names. Beyond the loopback any name is accepted until one is given here.
    pub fn allowed_host(mut self, name: impl Into<String>) -> Self {
        self.allowed_hosts.push(name.into());
        self
    }

    /// How long a polling thread may take for one pass before the process counts as not alive
    /// (default 30 s). Slow brokers may keep it for 12 s at an assignment. The brokers' own
    /// patience is `max.poll.interval.ms`, 5 min by default.
    pub fn polling_limit(mut self, limit: Duration) -> Self {
        self.polling_limit = limit;
        self
    }

    /// One more subscription to serve. More can be [added](AdminServer::add) to the running server.
    pub fn subscription(self, subscription: SubscriptionHandle) -> Self {
        self.serve(Arc::new(subscription))
    }

    pub(crate) fn serve(mut self, subscription: Arc<dyn Served>) -> Self {
        self.subscriptions.push(subscription);
        self
    }

    /// Serves the metrics at `/metrics`, too: the text that `render` returns, in Prometheus' text
    /// format. It is called for each scrape, on the server's thread.
    ///
    /// # Examples
    /// With the feature `prometheus` of keylane; any recorder that renders text will do:
    ///
    /// ```
    /// use keylane_admin::AdminServer;
    ///
    /// let metrics = keylane::metrics::serve_prometheus(0)?;
    /// let admin = AdminServer::builder()
    ///     .metrics(move || metrics.handle().render())
    ///     .start()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn metrics(mut self, render: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.metrics = Some(Metrics::new(render));
        self
    }

    /// Listens and serves.
    ///
    /// # Errors
    /// [`AdminError::Token`] or [`AdminError::DuplicateName`] where the description cannot work,
    /// [`AdminError::Bind`] if the address cannot be listened on, [`AdminError::Start`] if there is
    /// no thread to be had.
    pub fn start(self) -> Result<AdminServer, AdminError> {
        let (address, is_named) = (self.address, !self.allowed_hosts.is_empty());
        // What cannot work is refused before anything listens.
        let mut shared = self.shared()?;
        let bind = |source| AdminError::Bind { address, source };
        let listener = TcpListener::bind(address).map_err(bind)?;
        listener.set_nonblocking(true).map_err(bind)?;
        let local_addr = listener.local_addr().map_err(bind)?;
        shared.hosts.checked = local_addr.ip().to_canonical().is_loopback() || is_named;
        AdminServer::start(listener, local_addr, AdminRoutes::new(shared))
    }

    /// The routes alone, to be served by an axum server of your own: see [`AdminRoutes`]. The
    /// address is not used.
    ///
    /// # Errors
    /// [`AdminError::Token`] or [`AdminError::DuplicateName`].
    pub fn routes(self) -> Result<AdminRoutes, AdminError> {
        self.shared().map(AdminRoutes::new)
    }

    fn shared(self) -> Result<Shared, AdminError> {
        if self.token.as_ref().is_some_and(|token| !token.is_usable()) {
            return Err(AdminError::Token);
        }
        let mut subscriptions = AllServed::default();
        for subscription in self.subscriptions {
            let name = subscription.name().to_owned();
            if !subscriptions.add(subscription) {
                return Err(AdminError::DuplicateName { name });
            }
        }
        Ok(Shared {
            subscriptions: RwLock::new(subscriptions),
            token: self.token,
            hosts: Hosts {
                checked: true,
                allowed: self.allowed_hosts,
            },
            polling_limit: self.polling_limit,
            act_timeout: ACT_TIMEOUT,
            metrics: self.metrics,
            redrives: Arc::new(Redrives::new(PATIENCE)),
        })
    }
}
