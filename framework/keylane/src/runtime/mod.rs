//! One owner task per (topic, partition, epoch): runs attempts, keeps time, writes retries and dead
//! letters.
//!
//! The owner carries out what the core decides and holds no policy. It is the only one to touch its
//! partition's state; everything reaches it through one [`Inbox`], a batch at a time, and what the
//! polling thread needs to know it reads from the owner's [`Progress`]. Both belong to one epoch:
//! what arrives after the epoch has ended reaches nobody (guarantee G7).

mod attempts;
mod crash_care;
mod epoch;
mod figures;
mod foreign;
mod given_up;
mod guarded;
mod hot_keys;
mod inbox;
mod observer;
mod owner;
mod progress;
mod publish;
mod settle;
mod shared;
mod watchdog;

pub(crate) use crash_care::instance;
pub(crate) use foreign::RetryOwnership;
pub(crate) use inbox::Inbox;
pub(crate) use observer::{Observed, Observer};
pub(crate) use owner::{Opening, open};
pub(crate) use progress::Progress;
pub(crate) use shared::{Runtime, Work};
