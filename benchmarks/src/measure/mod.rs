//! What every arm shares: the job, the work that is done for each record, and who watches that it
//! is done right.
//!
//! The same files are compiled into the arm that lives in a crate of its own
//! (`benchmarks/ruststream`), so they use nothing but the standard library, serde and tokio.

mod histogram;
mod job;
mod observer;
mod run;
mod sample;
mod usage;
mod work;

pub(crate) use job::{Job, KEY_BYTES};
pub(crate) use observer::{Observer, Outcome, Seen, unix_micros};
pub(crate) use run::Run;
pub(crate) use sample::Sample;
pub(crate) use work::{Work, compute, scatter};

/// Anything that can go wrong in an arm.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How long a failed attempt waits before the next, in every arm that retries.
pub(crate) const RETRY_DELAY: std::time::Duration = std::time::Duration::from_millis(10);
