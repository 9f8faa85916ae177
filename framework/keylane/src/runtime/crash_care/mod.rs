//! Care after a crash: what may have killed the process is tried alone, or with nothing beside it.

mod caution;
mod permit;
mod quiet;
mod turns;

pub(super) use caution::poison_history;
pub(super) use permit::TurnPermit;
pub(super) use quiet::Busy;
pub(crate) use turns::instance;
#[cfg(test)]
pub(super) use turns::request;
