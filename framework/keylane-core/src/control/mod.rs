//! The control topic of a group: what operators order by it, as one fold of its records.
//!
//! The topic is compacted and has one partition. The key of a record says what it is about
//! ([`ControlKey`]), its value what holds ([`Content`]), and the last record of a key counts. The
//! shell reads records and decodes their JSON; what follows from them is decided here.
//!
//! # Invariants
//! * Folding the compacted log gives the same [`Directives`] as folding the whole log, as far as
//!   every record can be read and there are at most [`MOST_ENTRIES`].
//! * A record that cannot be read takes nothing back: what held for its key before holds on, and a
//!   pause that cannot be read holds as one. So compaction and a restart never end a pause.

mod acks;
mod directives;
mod key;
mod order;

pub use acks::{ACKNOWLEDGE_EVERY, Ack, Acks, FRESH_FOR, GONE_AFTER, MOST_ACKS, Tally};
pub use directives::{Applied, Directives, MOST_ENTRIES, Refusal, SkipEnd};
pub use key::{ControlKey, PauseScope};
pub use order::{Content, Order};

#[cfg(test)]
mod tests;
