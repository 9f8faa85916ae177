//! A transactional outbox: see [`Outbox`] and [`Relay`].

// | file | what it holds |
// |---|---|
// | `table` | `Outbox`: the table, and enqueuing |
// | `set_aside` | what operators do with rows that cannot be sent |
// | `row` | a row that is written, and one that is read |
// | `headers` | headers as text |
// | `store` | what both databases offer the rest; `postgres`, `sqlite`: their statements |
// | `relay/` | publishing what is in the table |
// | `metrics` | names and series |

mod error;
mod headers;
pub mod metrics;
#[cfg(feature = "postgres")]
mod postgres;
mod relay;
mod row;
mod set_aside;
#[cfg(feature = "sqlite")]
mod sqlite;
pub(crate) mod store;
mod table;

pub use error::OutboxError;
pub use relay::{Relay, RelayBuilder, RelayError, Unsendable};
pub use row::{OutboxId, OutboxIdError};
pub use set_aside::SetAsideRow;
pub use table::Outbox;
