//! Helpers of all other modules, without Kafka's protocol: locks and panics, bounds for log lines
//! and error texts, texts without secrets, times as text.

mod bounded_lines;
pub(crate) mod clock;
pub(crate) mod error_text;
pub(crate) mod lock;
mod log_limit;
pub(crate) mod panics;
pub(crate) mod rfc3339;
mod secrets;

pub(crate) use bounded_lines::BoundedLines;
pub(crate) use log_limit::LogLimit;
pub(crate) use secrets::without_secrets;
