//! Why an inbox refuses.

use std::time::Duration;

use keylane_core::inbox::TimesError;

use crate::database::TableNameError;

/// What went wrong. As the error of an attempt each of these is retried by policy; the transaction has
/// to be rolled back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InboxError {
    /// The name of the table.
    #[error(transparent)]
    Table(#[from] TableNameError),
    /// The times.
    #[error(transparent)]
    Times(#[from] TimesError),
    /// The tables are not there.
    #[error(
        "the inbox {table} is not in this database; call `migrate` first, or run what `schema` prints"
    )]
    NotMigrated {
        /// The table.
        table: String,
    },
    /// The tables were made by a newer keylane.
    #[error(
        "the inbox {table} has version {version} of its tables, this keylane knows {known}; update it"
    )]
    Newer {
        /// The table.
        table: String,
        /// In the database.
        version: i32,
        /// Known here.
        known: i32,
    },
    /// The retry policy or the time-out of attempts lasts longer than entries are kept.
    #[error(
        "the inbox of group {group} keeps entries for {wait:?}, and a record of its subscription may be tried for longer; \
         set `wait` to {needed:?} at least"
    )]
    WaitTooShort {
        /// The group.
        group: String,
        /// As it is set.
        wait: Duration,
        /// What is enough.
        needed: Duration,
    },
    /// The subscription is of another group.
    #[error(
        "the inbox is of group {inbox}, the subscription of group {subscription}; use the same"
    )]
    OtherGroup {
        /// The inbox's.
        inbox: String,
        /// The subscription's.
        subscription: String,
    },
    /// The subscription reads from no broker.
    #[error("the subscription reads from no broker, so that it has no position to sweep by")]
    NoBrokers,
    /// The attempt began too long ago: an effect of another member may have been forgotten. Another
    /// attempt follows, if the partition still is this member's.
    #[error("the attempt began {age:?} ago, and can rely on the inbox for {limit:?}")]
    TooLate {
        /// Since it began.
        age: Duration,
        /// What is allowed.
        limit: Duration,
    },
    /// The lease of an effect has expired, and another attempt has taken it over.
    #[error(
        "the lease of the effect {effect:?} has expired, and another attempt has taken it over; give it a longer one"
    )]
    LeaseLost {
        /// The effect.
        effect: String,
    },
    /// The database refused a statement, or cannot be reached.
    #[error("the inbox {table}: {source}")]
    Database {
        /// The table.
        table: String,
        /// sqlx's error.
        source: sqlx::Error,
    },
}
