//! What the commands do.

pub(crate) mod acts;
mod confirm;
pub(crate) mod control;
mod dlq;
mod doctor;
mod lag;
mod map;
mod moment;
mod offsets;
mod oldest;
mod places;

use crate::Surroundings;
use crate::arguments::{Command, OffsetsCommand};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::output::Table;

/// What a command has found.
pub(crate) struct Report {
    pub(crate) table: Table,
    /// Written in place of the table, byte for byte.
    pub(crate) raw: Option<Vec<u8>>,
    /// For people, beside the result.
    pub(crate) notes: Vec<String>,
    /// What could not be read or done.
    pub(crate) missing: Vec<String>,
    /// What was looked for and should not be there.
    pub(crate) has_problems: bool,
}

impl From<Table> for Report {
    fn from(table: Table) -> Self {
        Self {
            table,
            raw: None,
            notes: Vec::new(),
            missing: Vec::new(),
            has_problems: false,
        }
    }
}

pub(crate) fn run(
    command: &Command,
    connection: &Connection,
    surroundings: &mut Surroundings<'_>,
) -> Result<Report, Failure> {
    match command {
        Command::Lag { group, admin } => lag::run(connection, group, admin),
        Command::Oldest { group, admin } => oldest::run(connection, group, admin),
        Command::Map { group, partition } => map::run(connection, group, partition),
        Command::Offsets { command } => match command {
            OffsetsCommand::Show { group } => offsets::show::run(connection, group),
            OffsetsCommand::Reset(arguments) => {
                offsets::reset::run(connection, arguments, &mut surroundings.ask)
            }
        },
        Command::Pause(arguments) => control::pause(connection, arguments),
        Command::Resume(arguments) => control::resume(connection, arguments),
        Command::Skip(arguments) => control::skip(connection, arguments),
        Command::Control { command } => control::run(connection, command),
        Command::Dlq { command } => dlq::run(connection, command, surroundings),
        Command::Doctor { group, retry_topic } => doctor::run(connection, group, retry_topic),
        // They need no cluster, and were answered before.
        Command::Completion { .. }
        | Command::Man
        | Command::PauseKey(_)
        | Command::ResumeKey(_)
        | Command::RetryNow(_)
        | Command::DeadLetterNow(_)
        | Command::Release(_) => Ok(Table::new(&[]).into()),
    }
}
