//! `keylane control`, `pause`, `resume` and `skip`: orders by a group's control topic.

use std::time::SystemTime;

pub(crate) mod arguments;
mod create;
mod prune;
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
        ControlCommand::Prune { group, dry_run } => {
            prune::run(&commander(connection, group)?, *dry_run)
        }
        ControlCommand::Create {
            group,
            replication_factor,
        } => create::run(&commander(connection, group)?, *replication_factor),
    }
}

fn commander(connection: &Connection, group: &ControlGroup) -> Result<Commander, Failure> {
    connection.commander(&group.group, group.control_topic.as_deref())
}

fn millis(time: SystemTime) -> i64 {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
