//! What the commands do.

mod lag;
mod map;
mod oldest;
mod places;

use std::io;

use crate::arguments::Command;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::output::Table;

/// A question at the terminal, where there is one.
pub(crate) type Ask<'a> = Option<&'a mut dyn FnMut(&str) -> io::Result<bool>>;

/// What a command has found.
pub(crate) struct Report {
    pub(crate) table: Table,
    /// For people, beside the result.
    pub(crate) notes: Vec<String>,
    /// What could not be read or done.
    pub(crate) missing: Vec<String>,
}

impl From<Table> for Report {
    fn from(table: Table) -> Self {
        Self {
            table,
            notes: Vec::new(),
            missing: Vec::new(),
        }
    }
}

pub(crate) fn run(
    command: &Command,
    connection: &Connection,
    _ask: &mut Ask<'_>,
) -> Result<Report, Failure> {
    match command {
        Command::Lag { group, admin } => lag::run(connection, group, admin),
        Command::Oldest { group } => oldest::run(connection, group),
        Command::Map { group, partition } => map::run(connection, group, partition),
        // They need no cluster, and were answered before.
        Command::Completion { .. } | Command::Man => Ok(Table::new(&[]).into()),
    }
}
