//! The command line of keylane, as a function that the binary `keylane` and tests call.
//!
//! It works with Kafka alone. It reads what groups have committed, and joins no group. The manual's
//! page "The command line" has the commands; the function has no promise of its own.
//!
//! # Invariants
//! * What could not be read is shown as `unknown`, never as 0. It makes the exit code 3, except for
//!   members' figures where no member was named, and in a check-up, where it is a finding.
//! * No value of a setting appears in an error.
//! * Nothing waits for an answer where there is no terminal.

mod arguments;
mod commands;
mod connection;
mod failure;
mod members;
mod output;
mod progress;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};

use clap::{CommandFactory, FromArgMatches};

use arguments::{Arguments, Command};
use connection::Connection;
use failure::Failure;

/// Asks a question, and returns whether the answer is yes.
pub type Ask<'a> = Box<dyn FnMut(&str) -> io::Result<bool> + 'a>;

/// Whether a run draws its progress on the standard error. What the standard error is, is for the
/// caller to know: a bar is only for a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Progress {
    /// It draws nothing.
    #[default]
    Hidden,
    /// It draws a bar while it reads or writes for long, and removes it at the end. `messages` must
    /// not hold the lock of the standard error then.
    Shown,
}

/// What a run may see of its surroundings.
pub struct Surroundings<'a> {
    /// The variables of the environment.
    pub environment: BTreeMap<String, String>,
    /// Where results go.
    pub output: &'a mut dyn Write,
    /// Where everything else goes.
    pub messages: &'a mut dyn Write,
    /// Asks a question at the terminal; `None` where there is none.
    pub ask: Option<Ask<'a>>,
    /// Whether progress is drawn.
    pub progress: Progress,
}

/// Runs a command, and returns the exit code: 0 is ok; 1 refused or failed without
/// a change, or a problem was found; 2 wrong usage; 3 where a part of the result is missing, or it is
/// unknown whether a change was made.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    mut surroundings: Surroundings<'_>,
) -> u8 {
    let done = execute(arguments, &mut surroundings);
    match done {
        Ok(code) => code,
        // The reader of the output, such as `head`, has seen enough.
        Err(failure) if failure.exit_code() == 0 => 0,
        Err(failure) => {
            // Without a place for messages there is only the code.
            let _ = writeln!(surroundings.messages, "error: {failure}");
            failure.exit_code()
        }
    }
}

fn execute(
    arguments: impl IntoIterator<Item = OsString>,
    surroundings: &mut Surroundings<'_>,
) -> Result<u8, Failure> {
    let parsed = Arguments::command()
        .try_get_matches_from(arguments)
        .and_then(|matches| Arguments::from_arg_matches(&matches));
    let arguments = match parsed {
        Ok(arguments) => arguments,
        // Help and version too: they have the code 0, and belong to the output.
        Err(error) if error.exit_code() == 0 => {
            write!(surroundings.output, "{error}")?;
            return Ok(0);
        }
        Err(error) => {
            write!(surroundings.messages, "{error}")?;
            return Ok(failure::USAGE);
        }
    };
    match &arguments.command {
        Command::Completion { shell } => {
            let mut script = Vec::new();
            let mut tree = Arguments::command();
            clap_complete::generate(*shell, &mut tree, "keylane", &mut script);
            surroundings.output.write_all(&script)?;
            return Ok(0);
        }
        Command::Man => {
            arguments::manual(surroundings.output)?;
            return Ok(0);
        }
        _ => {}
    }
    let environment = &surroundings.environment;
    let connection = Connection::resolve(&arguments.connection, environment)?;
    let report = match commands::acts::order(&arguments.command, environment)? {
        Some(order) => order.carry_out(connection.patience())?,
        None => commands::run(&arguments.command, &connection, surroundings)?,
    };
    for note in &report.notes {
        writeln!(surroundings.messages, "{note}")?;
    }
    for missing in &report.missing {
        writeln!(surroundings.messages, "incomplete: {missing}")?;
    }
    match &report.raw {
        Some(bytes) => surroundings.output.write_all(bytes)?,
        None => write!(
            surroundings.output,
            "{}",
            report.table.render(arguments.output)
        )?,
    }
    surroundings.output.flush()?;
    Ok(match (report.has_problems, report.missing.is_empty()) {
        (true, _) => failure::REFUSED,
        (false, false) => failure::PARTIAL,
        (false, true) => 0,
    })
}
