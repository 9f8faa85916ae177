//! Care after a crash: what may have killed the process is tried alone, or with nothing beside it.

mod care;
mod permit;
mod quiet;
mod turns;

pub(super) use care::CrashCare;
pub(super) use permit::TurnPermit;
pub(crate) use turns::instance;
#[cfg(test)]
pub(super) use turns::request;
