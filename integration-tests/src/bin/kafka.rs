//! A real Kafka on this machine without containers: `cargo run -p keylane-integration-tests --bin
//! kafka -- [1|3]`.
//!
//! Prints the bootstrap servers in its first line, the data directory in its second and the
//! brokers' process ids in its third, and runs until its input ends or it is stopped. The brokers
//! end with it, however it ends.

use std::{
    io::{self, Read, Write},
    process::ExitCode,
};

use keylane_integration_tests::kafka::{Found, Kafka, Nodes};

fn main() -> ExitCode {
    let nodes = match std::env::args().nth(1).as_deref() {
        None | Some("1") => Nodes::One,
        Some("3") => Nodes::Three,
        Some(other) => {
            eprintln!("cannot start {other} nodes: 1 or 3 are possible");
            return ExitCode::from(2);
        }
    };
    match Kafka::start(nodes) {
        Found::Running(kafka) => match run(&kafka) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("input or output failed: {error}");
                ExitCode::FAILURE
            }
        },
        Found::Unavailable(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn run(kafka: &Kafka) -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{}", kafka.bootstrap_servers())?;
    if let Some(dir) = kafka.data_dir() {
        writeln!(out, "{}", dir.display())?;
    }
    let pids: Vec<String> = kafka.pids().iter().map(u32::to_string).collect();
    writeln!(out, "{}", pids.join(" "))?;
    out.flush()?;
    let mut ignored = [0; 1024];
    while io::stdin().read(&mut ignored)? > 0 {}
    Ok(())
}
