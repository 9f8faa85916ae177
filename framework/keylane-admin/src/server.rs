//! The server: a thread of its own with a listener.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use axum::Router;
use hyper_util::service::TowerToHyperService;
use keylane::SubscriptionHandle;
use keylane_connections::Bounds;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use crate::{AdminError, AdminRoutes, AdminServerBuilder};

/// A transaction has 500 copies, unless set otherwise.
const REDRIVE_STOPS_WITHIN: Duration = Duration::from_secs(10);

/// A running admin server; see the [crate].
///
/// It serves until it is dropped or [shut down](Self::shutdown), on a thread of its own.
#[derive(Debug)]
#[must_use = "dropping the server stops it"]
pub struct AdminServer {
    local_addr: SocketAddr,
    routes: AdminRoutes,
    stop: CancellationToken,
    stopped: CancellationToken,
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
        self.routes.add(subscription)
    }

    /// Removes the subscription of this name; `false` where there is none. Use it for one that has
    /// ended and will not come back. Until then it is listed, and a failed one keeps `/health/live`
    /// at 503.
    ///
    /// # Examples
    /// ```
    /// use keylane_admin::AdminServer;
    ///
    /// let admin = AdminServer::builder().start()?;
    /// assert!(!admin.remove("not-there"));
    /// # Ok::<(), keylane_admin::AdminError>(())
    /// ```
    pub fn remove(&self, name: &str) -> bool {
        self.routes.remove(name)
    }

    /// What it serves, also to be mounted in an axum app of your own: see [`AdminRoutes::router`] for
    /// what holds there, and what only the server's own address gives.
    pub fn router(&self) -> Router {
        self.routes.router()
    }

    #[cfg(test)]
    pub(crate) fn routes(&self) -> &AdminRoutes {
        &self.routes
    }

    pub(crate) fn start(
        listener: TcpListener,
        local_addr: SocketAddr,
        routes: AdminRoutes,
    ) -> Result<Self, AdminError> {
        let (router, redrives) = (routes.alone(), routes.redrives());
        let server = Self {
            local_addr,
            routes,
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
                    serve(&runtime, listener, router, stop);
                    runtime.block_on(redrives.shutdown(REDRIVE_STOPS_WITHIN));
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

    /// Stops listening, lets what is being answered finish (10 s at most), stops a redrive after the
    /// transaction that is open (10 s at most), and returns when the thread is done.
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

fn serve(runtime: &Runtime, listener: TcpListener, router: Router, stop: CancellationToken) {
    let served = runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let service = TowerToHyperService::new(router);
        keylane_connections::serve(listener, "admin", service, Bounds::default(), stop).await;
        Ok::<(), io::Error>(())
    });
    if let Err(error) = served {
        tracing::error!(%error, "the admin server cannot listen");
    }
}
