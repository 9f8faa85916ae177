//! `keylane control`, `pause`, `resume` and `skip`: orders by a group's control topic.

pub(crate) mod arguments;
mod create;
mod show;
mod write;

pub(crate) use write::{pause, resume, skip};

use super::Report;
use crate::connection::Connection;
use crate::failure::Failure;
use arguments::{ControlCommand, ControlGroup};
use keylane::control::Commander;

pub(crate) fn run(connection: &Connection, command: &ControlCommand) -> Result<Report, Failure> {
    match command {
        ControlCommand::Show { group } => show::run(&commander(connection, group)?),
        ControlCommand::Create {
            group,
            replication_factor,
        } => create::run(&commander(connection, group)?, *replication_factor),
    }
}

fn commander(connection: &Connection, group: &ControlGroup) -> Result<Commander, Failure> {
    connection.commander(&group.group, group.control_topic.as_deref())
}
