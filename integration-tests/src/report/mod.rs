//! What the report programs share: arguments, a load by the clock, and percentiles.
//!
//! A report measures, and describes how; it is run by hand, in release, on a machine that does
//! nothing else.

mod arguments;
mod costs;
pub mod letters;
mod open_loop;
mod percentiles;

pub use arguments::Arguments;
pub use costs::{cpu_seconds, peak_rss_mib};
pub use open_loop::{OpenLoop, Sent};
pub use percentiles::Percentiles;
