//! What every other module stands on, and what knows nothing of Kafka's protocol: bounds for log
//! lines, texts without secrets, times as text.

mod bounded_lines;
mod log_limit;
pub(crate) mod rfc3339;
mod secrets;

pub(crate) use bounded_lines::BoundedLines;
pub(crate) use log_limit::LogLimit;
pub(crate) use secrets::without_secrets;
