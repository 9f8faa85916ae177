//! The control topic: what operators write to it, and the thread of a member that reads it.
//!
//! What follows from its records is decided in [`keylane_core::control`]. The commands are for
//! keylane's command line, and no promise of their own.

mod acknowledging;
mod commands;
mod fit;
mod follower;
mod skips;
mod wire;

pub use commands::{Commander, ControlError, InForce};

pub(crate) use acknowledging::Acknowledging;
pub(crate) use fit::check;
pub(crate) use follower::{Follower, Following};
pub(crate) use skips::Skips;
