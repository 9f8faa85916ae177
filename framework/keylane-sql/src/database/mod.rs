//! The databases, and the names of tables in them.

mod table_name;

pub(crate) use table_name::TableName;
pub use table_name::TableNameError;

/// A database of sqlx that keylane can use: [`sqlx::Postgres`] with the feature `postgres`, and
/// [`sqlx::Sqlite`] with the feature `sqlite`. Nothing else can be one.
pub trait Database: crate::outbox::store::Store + crate::inbox::store::InboxStore {}

#[cfg(feature = "postgres")]
impl Database for sqlx::Postgres {}

#[cfg(feature = "sqlite")]
impl Database for sqlx::Sqlite {}
