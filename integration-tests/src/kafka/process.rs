//! Child processes with deadlines.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::error::HarnessError;

const POLL: Duration = Duration::from_millis(20);
/// The end of a log that is worth showing.
const TAIL_LINES: usize = 25;
const TAIL_BYTES: u64 = 16 * 1024;

/// The program `name` of the JDK that `JAVA_HOME` names, else the one on the path.
pub(super) fn java() -> PathBuf {
    std::env::var_os("JAVA_HOME")
        .map(|home| Path::new(&home).join("bin/java"))
        .filter(|java| java.is_file())
        .unwrap_or_else(|| PathBuf::from("java"))
}

/// Runs a command to its end with its output in the file `log`; kills it when `deadline` passes.
pub(super) fn run(
    name: &str,
    command: &mut Command,
    log: &Path,
    deadline: Duration,
) -> Result<(), HarnessError> {
    let mut child = start(name, command, log)?;
    finish(name, &mut child, log, deadline)
}

/// Starts a command without input and with its output in the file `log`.
pub(super) fn start(name: &str, command: &mut Command, log: &Path) -> Result<Child, HarnessError> {
    let output = append_to(log)?;
    let errors = output
        .try_clone()
        .map_err(HarnessError::io(format!("share {}", log.display())))?;
    command
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .map_err(HarnessError::io(format!("start {name} (is it installed?)")))
}

/// Waits for the end of what [`start`] started.
pub(super) fn finish(
    name: &str,
    child: &mut Child,
    log: &Path,
    deadline: Duration,
) -> Result<(), HarnessError> {
    let status =
        match wait(child, deadline).map_err(HarnessError::io(format!("wait for {name}")))? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => status.to_string(),
            None => {
                let _ = child.kill();
                let _ = child.wait();
                format!("killed after {deadline:?}")
            }
        };
    Err(HarnessError::Command {
        command: name.to_owned(),
        status,
        output: tail(log),
    })
}

/// The exit status, or `None` when the process still runs at the deadline.
pub(super) fn wait(child: &mut Child, deadline: Duration) -> std::io::Result<Option<ExitStatus>> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if started.elapsed() >= deadline {
            return Ok(None);
        }
        thread::sleep(POLL);
    }
}

/// A log file to write on; what it holds already stays.
pub(super) fn append_to(log: &Path) -> Result<File, HarnessError> {
    File::options()
        .create(true)
        .append(true)
        .open(log)
        .map_err(HarnessError::io(format!("open {}", log.display())))
}

/// The last lines of a log file.
pub(super) fn tail(log: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => last_lines(&String::from_utf8_lossy(&bytes)),
        Err(error) => format!("(no log at {}: {error})", log.display()),
    }
}

/// Whether the log has it anywhere: a broker logs much after the cause of its end.
pub(super) fn contains(log: &Path, words: &str) -> bool {
    File::open(log).is_ok_and(|file| {
        BufReader::new(file)
            .lines()
            .map_while(Result::ok)
            .any(|line| line.contains(words))
    })
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use std::{process::Command, time::Duration};

    use super::{TAIL_LINES, last_lines, run};

    #[test]
    fn a_failing_command_is_reported_with_its_status_and_its_words() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo words; exit 3"]);
        let error = run(
            "sh",
            &mut command,
            &dir.path().join("log"),
            Duration::from_secs(60),
        )
        .unwrap_err()
        .to_string();
        assert!(
            error.contains("exit status: 3") && error.contains("words"),
            "{error}"
        );
    }

    #[test]
    fn a_command_that_does_not_end_is_killed_at_its_deadline() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "exec sleep 1000"]);
        let error = run("sh", &mut command, &dir.path().join("log"), Duration::ZERO)
            .unwrap_err()
            .to_string();
        assert!(error.contains("killed after"), "{error}");
    }

    #[test]
    fn only_the_last_lines_of_a_log_are_shown() {
        let text: String = (0..100).map(|line| format!("line {line}\n")).collect();
        let shown = last_lines(&text);
        assert_eq!(shown.lines().count(), TAIL_LINES);
        assert!(shown.ends_with("line 99"));
    }
}
