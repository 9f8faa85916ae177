//! What is served, apart from who serves it.

use std::sync::Arc;

use axum::Router;
use keylane::SubscriptionHandle;

use crate::redrives::Redrives;
use crate::served::Served;
use crate::{AdminError, lock, routes};

/// The admin interface without a server: a [`Router`] for an axum app of your own, and the
/// subscriptions it shows. Clones share these.
///
/// # What the routes enforce, and what only the server does
/// | | [`router`](Self::router) | [`AdminServer`](crate::AdminServer) |
/// |---|---|---|
/// | steering needs the [token](crate::AdminServerBuilder::token) | yes | yes |
/// | `Host` is `localhost`, an address, or [allowed](crate::AdminServerBuilder::allowed_host) | yes | on the loopback, or once a name is allowed |
/// | 16 KiB and 10 s for a body | yes | yes |
/// | 32 connections, 10 s and 16 KiB for a head, 1 min for a connection | **no**: your server's | yes |
/// | answers while the processors' threads are blocked | **no**: it runs on your runtime | yes |
/// | read access | everybody who reaches your server, unless you put a layer around it | everybody who reaches the address |
///
/// So let Kubernetes ask an [`AdminServer`](crate::AdminServer) whether the process lives, and mount the router for
/// people. Both can be had: [`AdminServer::router`](crate::AdminServer::router).
///
/// # The version of axum
/// [`Router`] is axum 0.8's. It is the only type of a crate below 1.0 in this interface: a new
/// minor version of axum is a breaking change of `keylane-admin`.
///
/// # Examples
/// ```
/// use axum::Router;
/// use keylane_admin::AdminServer;
///
/// let admin = AdminServer::builder().allowed_host("parking.example.com").routes()?;
/// // admin.add(subscription.handle())?;
/// let app: Router = Router::new().nest("/keylane", admin.router());
/// # Ok::<(), keylane_admin::AdminError>(())
/// ```
#[derive(Clone, Debug)]
pub struct AdminRoutes {
    shared: Arc<routes::Shared>,
}

impl AdminRoutes {
    pub(crate) fn new(shared: routes::Shared) -> Self {
        Self {
            shared: Arc::new(shared),
        }
    }

    /// A router with all paths, to be merged into another or nested in it. It has no fallback: what
    /// it does not serve stays your app's.
    pub fn router(&self) -> Router {
        routes::mounted(self.shared.clone())
    }

    /// The router of a server that serves nothing else.
    pub(crate) fn alone(&self) -> Router {
        routes::alone(self.shared.clone())
    }

    /// The redrives that these routes run.
    pub(crate) fn redrives(&self) -> Arc<Redrives> {
        self.shared.redrives.clone()
    }

    /// Does the same as [`AdminServer::add`](crate::AdminServer::add).
    ///
    /// # Errors
    /// [`AdminError::DuplicateName`] where one of this name still runs.
    pub fn add(&self, subscription: SubscriptionHandle) -> Result<(), AdminError> {
        self.serve(Arc::new(subscription))
    }

    pub(crate) fn serve(&self, subscription: Arc<dyn Served>) -> Result<(), AdminError> {
        let name = subscription.name().to_owned();
        match lock::write(&self.shared.subscriptions).add(subscription) {
            true => Ok(()),
            false => Err(AdminError::DuplicateName { name }),
        }
    }

    /// Does the same as [`AdminServer::remove`](crate::AdminServer::remove).
    pub fn remove(&self, name: &str) -> bool {
        lock::write(&self.shared.subscriptions).remove(name)
    }
}
