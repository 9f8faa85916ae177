//! The rules of an inbox: whether an effect may have been made before, and which entries of it are no
//! longer needed.
//!
//! An inbox is a table with an *entry* for each record whose effect was made, written in the
//! transaction of that effect. Entries are swept: an entry is deleted when no attempt can come that
//! would need it. An attempt that may come later than that is not made.
//!
//! # The argument
//! An entry is deleted when the brokers' position has been above its record for at least `wait`, **and** it
//! is at least `wait` old, both by the database's clock. Let *T* be the time at which the position was
//! first seen above the record. Let an attempt insert its own entry at the time *n*, with success. So an
//! entry of an earlier effect is not there: either there was none, or it was swept between *T* + `wait` and
//! *n*.
//!
//! * **Of an origin topic.** The attempt began at *b*. A record below the position is not delivered again.
//!   So its member had the record from before *T*; and when it began, its lease was good, which it is for
//!   less than `margin` after the group has taken the partition away. Therefore *b* < *T* + `margin`. Where
//!   *n* − *b* < `wait` − `margin`, *n* lies before *T* + `wait`, and nothing was swept.
//! * **Of a retry topic.** The record failed first at *f*, in an attempt of the origin topic, and *f* < *T* +
//!   `margin` for the same reason: a failure is written only while the lease is good. Where *n* − *f* < `wait`
//!   − `margin`, nothing was swept. Where that is over, the entry's own age still protects from a member
//!   that has lost the retry topic's partition: the other member began its attempt, and wrote its entry,
//!   later than *b* − `margin`. So the entry is younger than `wait` while *n* − *b* < `wait` − `margin`.
//!
//! An attempt is *safe* where that holds. One that began too long ago is refused: its member has lost
//! the partition, or will repeat it. A retry whose first failure is too long ago has to be made, since
//! nothing else would, and is counted as *unprotected*.
//!
//! `margin` holds what clocks differ by, and how long a member can take itself for one of its group
//! that no longer is.

#[cfg(test)]
mod model;
mod times;

pub use times::{Judgement, Retried, Times, TimesError};
