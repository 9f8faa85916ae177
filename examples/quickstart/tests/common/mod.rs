//! Running the quickstart as a user does.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests stop the test as the tests do"
)]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

/// What a run left behind.
pub(crate) struct Finished {
    pub(crate) passed: bool,
    pub(crate) report: String,
}

/// A run under way. Killed when dropped.
pub(crate) struct Run(Child);

pub(crate) fn quickstart(arguments: &str) -> Finished {
    Run::start(arguments).finish()
}

impl Run {
    pub(crate) fn start(arguments: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quickstart"));
        command
            .args(arguments.split_whitespace())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .stdin(Stdio::null());
        Self(command.spawn().unwrap())
    }

    /// Waits for a line on standard error that the condition likes. The run itself ends within
    /// bounds, so this does too.
    pub(crate) fn wait_for_line(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        let stderr = BufReader::new(self.0.stderr.take().unwrap());
        let mut lines = stderr.lines().map(Result::unwrap);
        let line = lines
            .by_ref()
            .find(|line| wanted(line))
            .expect("the run ended before the line was there");
        // A thread has to go on reading, or the run would block at its next line.
        std::thread::spawn(move || lines.for_each(drop));
        line
    }

    /// Ctrl-C.
    pub(crate) fn interrupt(&self) {
        self.send("-INT");
    }

    /// Ends it as a supervisor does.
    pub(crate) fn terminate(&self) {
        self.send("-TERM");
    }

    fn send(&self, signal: &str) {
        let status = Command::new("kill")
            .args([signal, &self.0.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success(), "the run has ended already");
    }

    pub(crate) fn finish(mut self) -> Finished {
        let mut errors = String::new();
        if let Some(mut stderr) = self.0.stderr.take() {
            stderr.read_to_string(&mut errors).unwrap();
        }
        let mut report = String::new();
        self.0
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut report)
            .unwrap();
        let passed = self.0.wait().unwrap().success();
        Finished {
            passed,
            report: report + &errors,
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // Fails where it has ended, which is well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether a progress line counts notifications that are done.
pub(crate) fn something_is_done(line: &str) -> bool {
    count(line, "done").is_some_and(|done| done > 0)
}

/// The first number behind the word.
pub(crate) fn count(text: &str, word: &str) -> Option<u64> {
    let mut words = text.split_whitespace().skip_while(|other| *other != word);
    words.nth(1)?.replace(',', "").parse().ok()
}
