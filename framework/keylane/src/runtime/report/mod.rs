//! What an owner reports: figures, hot keys, alarms, and what is given up.

mod alarms;
mod figures;
mod given_up;
mod hot_keys;
mod observed;

pub(super) use alarms::{outcome_of_dropped, watch};
pub(super) use figures::Figures;
pub(super) use given_up::{
    Ended, report_dead_letter, report_foreign, report_parked, report_skipped,
};
pub(super) use hot_keys::KeyCounts;
pub(super) use observed::{exhausted, observe, observed};
