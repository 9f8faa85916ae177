//! One owner task per (topic, partition, epoch): runs attempts, keeps time, writes retries and dead
//! letters.
//!
//! The owner carries out what the core decides and holds no policy. Only the owner touches its
//! partition's state. Everything reaches it through one [`Inbox`], a batch at a time. The polling
//! thread reads the owner's [`Progress`]. Both belong to one epoch: what arrives after the epoch
//! has ended has no effect (guarantee G7).

mod acts;
mod attempts;
mod commit_points;
mod crash_care;
mod delivery;
mod epoch;
mod foreign;
mod guarded;
mod inbox;
mod observer;
mod open;
mod own_orders;
mod owned;
mod owner;
mod pending_record;
mod place_request;
mod progress;
mod report;
mod settling;
mod shared;
mod verdicts;
mod writes;

pub(crate) use crash_care::instance;
pub(crate) use epoch::EpochStart;
pub(crate) use inbox::Inbox;
pub(crate) use observer::{Observed, Observer};
pub(crate) use open::open;
pub(crate) use own_orders::{OwnOrders, SameLog};
pub(crate) use progress::Progress;
pub(crate) use shared::{Runtime, Surroundings, Work};
