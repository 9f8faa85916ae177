//! What can go wrong at the start.

use std::io;
use std::net::SocketAddr;

/// Why the admin server could not be started, or a subscription not be added to it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// The address is taken, not of this machine, or not allowed.
    #[error(
        "cannot serve the admin interface on {address}: choose another port, or 0 for a free one"
    )]
    Bind {
        /// The configured address.
        address: SocketAddr,
        /// The operating system's error.
        source: io::Error,
    },
    /// No thread, or no timer and poller for it.
    #[error(
        "cannot start the thread that serves the admin interface: check the limits of the process"
    )]
    Start(#[source] io::Error),
    /// Two subscriptions of one name could not be distinguished.
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
