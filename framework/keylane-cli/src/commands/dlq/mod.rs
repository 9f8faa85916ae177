//! `keylane dlq`: dead letters.

mod cells;
mod filter;
mod histogram;
mod json_layout;
mod ls;
mod purge;
mod read;
mod show;
mod stats;

use super::Report;
use crate::Surroundings;
use crate::arguments::DlqCommand;
use crate::connection::Connection;
use crate::failure::Failure;

pub(super) fn run(
    connection: &Connection,
    command: &DlqCommand,
    surroundings: &mut Surroundings<'_>,
) -> Result<Report, Failure> {
    let progress = surroundings.progress;
    match command {
        DlqCommand::Ls(arguments) => ls::run(connection, arguments, progress),
        DlqCommand::Show { place, raw } => show::run(connection, place, *raw),
        DlqCommand::Stats { letters, by } => stats::run(connection, letters, *by, progress),
        DlqCommand::Purge(arguments) => purge::run(connection, arguments, surroundings),
    }
}
