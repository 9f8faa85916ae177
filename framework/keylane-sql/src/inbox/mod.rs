//! An inbox: see [`Inbox`].

// | file | what it holds |
// |---|---|
// | `table` | `Inbox`: `once`, `once_by` |
// | `builder` | its settings, its tables |
// | `effect` | effects outside of the transaction: `begin`, `complete` |
// | `entry` | what names a record in the table, and what an attempt is judged by |
// | `sweep` | the task that deletes what is no longer needed |
// | `store` | what both databases offer the rest; `statements`: their statements |
// | `metrics` | names and series |

mod builder;
mod dedup;
mod effect;
mod entry;
mod error;
pub mod metrics;
mod statements;
pub(crate) mod store;
mod sweep;
mod table;
#[cfg(all(test, feature = "sqlite"))]
mod tests;

pub use builder::InboxBuilder;
pub use dedup::Dedup;
pub use effect::{Begun, Effect};
pub use error::InboxError;
pub use table::{Inbox, Once};
