//! `keylane dlq`: dead letters.

pub(super) mod cells;
mod filter;
mod histogram;
mod json_layout;
mod ls;
mod ops;
mod plan;
mod purge;
mod read;
mod redrive;
mod resolve;
mod show;
mod stats;
mod status;
mod stop;
mod through;

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
        DlqCommand::Stats { letters, by, open } => {
            stats::run(connection, letters, *by, open, progress)
        }
        DlqCommand::Redrive(arguments) => redrive::run(connection, arguments, surroundings),
        DlqCommand::Status(arguments) => status::run(connection, arguments),
        DlqCommand::Cancel(arguments) => resolve::cancel(connection, arguments, surroundings),
        DlqCommand::Resolve(arguments) => resolve::run(connection, arguments, surroundings),
        DlqCommand::Purge(arguments) => purge::run(connection, arguments, surroundings),
    }
}
