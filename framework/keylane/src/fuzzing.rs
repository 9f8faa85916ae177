//! What has to hold for any bytes: one function for each kind of foreign input. Each panics where
//! its input is misread.
//!
//! Not part of the interface: it is compiled for the fuzzers in `framework/fuzz` and for the tests
//! below, which replay what the fuzzers have found.

mod configuration;
mod decaton;
mod record_headers;
#[cfg(test)]
mod tests;
mod text;

pub use configuration::subscription_config;
pub use decaton::task_metadata;
pub use record_headers::record_headers;
pub use text::text;
