//! What every other module stands on, and what knows nothing of Kafka's protocol: bounds for log
//! lines, texts without secrets.

mod bounded_lines;
mod log_limit;
mod secrets;

pub(crate) use bounded_lines::BoundedLines;
pub(crate) use log_limit::LogLimit;
pub(crate) use secrets::without_secrets;
