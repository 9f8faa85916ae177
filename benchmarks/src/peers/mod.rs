//! Arms that are programs of their own, built on demand. One that cannot be built is skipped with a
//! line that has the reason.

pub(crate) mod java;
mod ruststream;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::arms::{Arm, Home};
use crate::measure::Job;

/// The programs that could be built.
#[derive(Default)]
pub(crate) struct Peers {
    ruststream: Option<PathBuf>,
    java: Option<java::Program>,
}

impl Peers {
    /// Builds what these arms need, and gives back those that can run.
    pub(crate) fn build(arms: &[Arm]) -> (Self, Vec<Arm>) {
        let needs = |home| arms.iter().any(|arm| arm.home() == home);
        let mut peers = Self::default();
        if needs(Home::Ruststream) {
            peers.ruststream = kept("ruststream", ruststream::build());
        }
        if needs(Home::Java) {
            peers.java = kept("the java arms", java::build());
        }
        let runs = |arm: &Arm| match arm.home() {
            Home::Here => true,
            Home::Ruststream => peers.ruststream.is_some(),
            Home::Java => peers.java.is_some(),
        };
        let arms = arms.iter().copied().filter(runs).collect();
        (peers, arms)
    }

    /// The process of one run.
    pub(crate) fn command(
        &self,
        arm: Arm,
        job: &Job,
    ) -> Result<Command, Box<dyn std::error::Error>> {
        let missing = || format!("{} was not built", arm.name());
        match arm.home() {
            Home::Here => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["arm", arm.name(), &serde_json::to_string(job)?]);
                Ok(command)
            }
            Home::Ruststream => {
                let mut command = Command::new(self.ruststream.as_ref().ok_or_else(missing)?);
                command.arg(serde_json::to_string(job)?);
                Ok(command)
            }
            Home::Java => Ok(self.java.as_ref().ok_or_else(missing)?.command(arm, job)),
        }
    }
}

fn kept<T>(what: &str, built: Result<T, String>) -> Option<T> {
    built
        .inspect_err(|reason| eprintln!("skipped: {what}: {reason}"))
        .ok()
}

/// Where peers are built: beside this program, in cargo's target directory.
fn cache(name: &str) -> Result<PathBuf, String> {
    let executable = std::env::current_exe().map_err(|error| error.to_string())?;
    let target = executable
        .parent()
        .and_then(Path::parent)
        .ok_or("this program is in no target directory")?;
    let cache = target.join("benchmark-peers").join(name);
    std::fs::create_dir_all(&cache)
        .map_err(|error| format!("create {}: {error}", cache.display()))?;
    Ok(cache)
}

/// Runs a build step; its output is the reason where it fails.
fn step(what: &str, command: &mut Command) -> Result<(), String> {
    let output = command
        .output()
        .map_err(|error| format!("{what} could not be started: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let line = said
        .lines()
        .find(|line| line.contains("error") || line.contains("ERROR"))
        .unwrap_or("no reason given");
    Err(format!("{what} failed: {line}"))
}
