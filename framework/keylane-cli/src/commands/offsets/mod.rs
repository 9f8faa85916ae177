//! `keylane offsets`: what a group has committed.

pub(super) mod reset;
pub(super) mod show;
mod target;
