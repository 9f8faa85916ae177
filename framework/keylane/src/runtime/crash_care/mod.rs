//! Care after a crash: what may have killed the process is tried with nothing else beside it.

mod care;
mod process;

pub(super) use care::CrashCare;
pub(super) use process::Permit;
pub(crate) use process::instance;
#[cfg(test)]
pub(super) use process::request_trial;
