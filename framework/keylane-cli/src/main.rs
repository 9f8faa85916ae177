//! The binary `keylane`; see the library of this crate.

use std::io::{self, BufRead, IsTerminal, Write};
use std::process::ExitCode;

use keylane_cli::{Ask, Progress, Surroundings};

fn main() -> ExitCode {
    let is_terminal = io::stdin().is_terminal() && io::stderr().is_terminal();
    // What is not UTF-8 is none of our variables.
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let code = keylane_cli::run(
        std::env::args_os(),
        Surroundings {
            environment: environment.collect(),
            output: &mut io::stdout().lock(),
            // Without its lock: progress is drawn from other threads.
            messages: &mut io::stderr(),
            ask: is_terminal.then(|| Box::new(ask) as Ask<'_>),
            progress: match io::stderr().is_terminal() {
                true => Progress::Shown,
                false => Progress::Hidden,
            },
        },
    );
    ExitCode::from(code)
}

fn ask(question: &str) -> io::Result<bool> {
    write!(io::stderr(), "{question} [y/N] ")?;
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
