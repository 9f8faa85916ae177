//! The chaos program: a group of keylane members whose processes, brokers and topics are broken
//! from a seed, and checks that the promises hold. See `README.md` in this folder.

pub mod check;
pub mod clock;
pub mod conductor;
pub mod cut_log;
pub mod downstream;
pub mod evidence;
pub mod fate;
pub mod group;
pub mod journal;
pub mod load;
pub mod member;
pub mod options;
pub mod planted;
pub mod programs;
pub mod rebalances;
pub mod results;
pub mod run;
pub mod sampler;
pub mod schedule;
pub mod settings;
pub mod table;
