//! The command `keylane`, for tests that run commands as a shell does.

use std::{collections::BTreeMap, ffi::OsString, io};

use keylane_cli::{Progress, Surroundings};

/// What brokers and members of a busy machine may take.
const TIMEOUT: &str = "90s";

/// Runs it without a terminal, and returns its exit code.
pub fn run() -> u8 {
    let mut arguments = std::env::args_os();
    let program = arguments.next();
    let patience = ["--timeout", TIMEOUT].map(OsString::from);
    let environment: BTreeMap<_, _> = std::env::vars().collect();
    keylane_cli::run(
        program.into_iter().chain(patience).chain(arguments),
        Surroundings {
            environment,
            output: &mut io::stdout().lock(),
            messages: &mut io::stderr(),
            ask: None,
            progress: Progress::Hidden,
        },
    )
}
