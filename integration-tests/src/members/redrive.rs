//! A redrive that is killed: it goes on with its task, or begins it.

#![allow(
    clippy::unwrap_used,
    reason = "a member that fails stops, and its test finds it dead"
)]

use keylane::redrive::{RedriveTask, RedriveTaskError};

/// What the variables of a member begin with.
pub const VARIABLE: &str = "KEYLANE_REDRIVE_";

/// Runs the task to its end, and prints a line for each of its transactions.
///
/// # Panics
/// When one of the variables is missing, or the task fails.
pub async fn run() {
    let needed = |name: &str| {
        let value = std::env::var(format!("{VARIABLE}{name}"));
        value.unwrap_or_else(|_| panic!("{VARIABLE}{name} is not set"))
    };
    // However the test ends.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    super::log_to_stderr();
    let task = || {
        RedriveTask::of(needed("TOPIC"))
            .bootstrap_servers(needed("SERVERS"))
            .group(needed("GROUP"))
            .by("the test")
            .on_progress(|it| println!("{} of {}", it.done, it.turns))
    };
    let ended = loop {
        match task().resume("killed").await {
            Err(RedriveTaskError::NoSuchTask { .. }) => {}
            // The member that ended it was killed before it printed that.
            Err(RedriveTaskError::AlreadyEnded { state, .. }) => {
                println!("ended {state:?}");
                return;
            }
            resumed => break resumed.unwrap(),
        }
        let window = needed("WINDOW").parse().unwrap();
        match task().id("killed").window(window).run().await {
            // A member that was killed began it. Its commit was not visible before.
            Err(RedriveTaskError::Unfinished { .. } | RedriveTaskError::IdTaken { .. }) => {}
            begun => break begun.unwrap(),
        }
    };
    println!("ended {:?}", ended.state);
}
