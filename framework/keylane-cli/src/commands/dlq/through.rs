//! A value that goes through a command: in by its standard input, out by its standard output.

use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use keylane::dead_letter::StoredLetter;
use keylane::redrive::Edit;

use super::cells;

/// How long one run may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// No broker takes a larger record with its default settings, by far.
const MOST_OUTPUT_BYTES: u64 = 64 * 1024 * 1024;
const MOST_ERROR_BYTES: u64 = 4 * 1024;
/// What is shown of a command's error.
const ERROR_WIDTH: usize = 300;

/// A command line of the shell that edits one value, run anew for each.
#[derive(Clone, Debug)]
pub(super) struct Through {
    command: String,
    patience: Duration,
}

impl Through {
    pub(super) fn new(command: &str) -> Self {
        Self {
            command: command.to_owned(),
            patience: PATIENCE,
        }
    }

    /// The value that comes out. An error where the command fails, takes too long, or writes too
    /// much.
    fn run(&self, value: &[u8]) -> Result<Vec<u8>, String> {
        let failed = |error: io::Error| format!("`{}` cannot be run: {error}", self.command);
        let mut child = Command::new("sh")
            .args(["-c", &self.command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let output = self.output(&mut child, value);
        if output.is_err() {
            // It may still run, or wait for its output to be read.
            let _ = child.kill();
        }
        let status = child.wait().map_err(failed)?;
        let (output, error) = output?;
        match status.success() {
            true => Ok(output),
            false => {
                let error = String::from_utf8_lossy(&error);
                let error = cells::cut(error.trim(), ERROR_WIDTH);
                Err(format!("`{}` ended with {status}: {error}", self.command))
            }
        }
    }

    /// What it writes to its outputs. Threads write and read, because a command may write before it
    /// has read all. They end with the command; a process that it leaves behind can keep them.
    fn output(&self, child: &mut Child, value: &[u8]) -> Result<(Vec<u8>, Vec<u8>), String> {
        let (stdin, mut stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let value = value.to_vec();
        thread::spawn(move || {
            // A command that does not read all of it is free to.
            let _ = stdin.map(|mut stdin| stdin.write_all(&value));
        });
        let (sender, ended) = mpsc::channel();
        thread::spawn(move || {
            let error = thread::spawn(move || read_out(stderr));
            let output = read(&mut stdout, MOST_OUTPUT_BYTES + 1);
            let error = error.join().unwrap_or_default();
            let _ = sender.send((output, error));
        });
        let (output, error) = ended
            .recv_timeout(self.patience)
            .map_err(|_| format!("`{}` did not end within {:?}", self.command, self.patience))?;
        match output.len() as u64 > MOST_OUTPUT_BYTES {
            true => Err(format!("`{}` writes more than 64 MiB", self.command)),
            false => Ok((output, error)),
        }
    }
}

impl Edit for Through {
    fn text(&self) -> String {
        format!("through {}", self.command)
    }

    fn edit(&mut self, letter: &StoredLetter) -> Result<Option<Bytes>, String> {
        // A tombstone stays one.
        let value = letter.record().value();
        value
            .map(|value| self.run(value).map(Bytes::from))
            .transpose()
    }
}

/// What could be read before an error is all there is.
fn read(from: &mut Option<impl Read>, most: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        let _ = from.take(most).read_to_end(&mut bytes);
    }
    bytes
}

/// The beginning of it. The rest is read too: a command that warns a lot would not go on.
fn read_out(mut from: Option<impl Read>) -> Vec<u8> {
    let bytes = read(&mut from, MOST_ERROR_BYTES);
    if let Some(from) = &mut from {
        let _ = io::copy(from, &mut io::sink());
    }
    bytes
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn edit(command: &str, value: &[u8]) -> Result<Vec<u8>, String> {
        Through::new(command).run(value)
    }

    #[test]
    fn what_goes_in_comes_out_changed() {
        assert_eq!(edit("tr a-z A-Z", b"abc").unwrap(), b"ABC");
        assert_eq!(edit("cat", &[0xff, 0]).unwrap(), [0xff, 0]);
        // It writes more than a pipe holds before it has read all.
        let large = vec![b'x'; 1024 * 1024];
        assert_eq!(edit("cat", &large).unwrap(), large);
        assert_eq!(
            edit("echo hello", &large).unwrap(),
            b"hello\n",
            "it reads nothing"
        );
    }

    #[test]
    fn a_command_that_fails_says_why() {
        let error = edit("echo no such field >&2; exit 5", b"{}").unwrap_err();
        assert!(error.contains("5: no such field"), "{error}");
        let error = edit("no-such-command", b"{}").unwrap_err();
        assert!(error.contains("no-such-command"), "{error}");
    }

    #[test]
    fn a_command_that_does_not_end_is_ended() {
        let slow = Through {
            patience: Duration::from_millis(100),
            ..Through::new("exec sleep 600")
        };
        let error = slow.run(b"").unwrap_err();
        assert!(error.contains("did not end within 100ms"), "{error}");
    }
}
