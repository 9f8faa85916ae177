//! One broker process: started, stopped, killed, suspended.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use super::{error::HarnessError, process, watchdog::Watchdog};

/// Small and quick to start: the first-stage compiler is enough for a test's load.
const JVM: [&str; 5] = [
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
];

/// Formatting starts a JVM, writes two files and ends.
const FORMAT_DEADLINE: Duration = Duration::from_secs(60);
/// A broker that hands over its partitions needs a few seconds; one that has lost the quorum would
/// wait for minutes.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// The shell waits for a line before it becomes the broker. By then the watchdog has its id, so
/// there is no moment at which our end would leave a broker behind. If this process ends before the
/// line, `read` fails and the shell ends.
const LAUNCH: &str = r#"read -r _ && exec "$@" </dev/null"#;

/// One broker, with the files it lives from.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) index: usize,
    pub(super) port: u16,
    libs: PathBuf,
    properties: PathBuf,
    log: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Down,
    Running(Child),
    Suspended(Child),
}

impl Node {
    /// A node that lives in `dir`, where its `server.properties` are; down.
    pub(super) fn new(index: usize, port: u16, libs: &Path, dir: &Path) -> Self {
        Self {
            index,
            port,
            libs: libs.to_owned(),
            properties: dir.join("server.properties"),
            log: dir.join("log"),
            state: Mutex::new(State::Down),
        }
    }

    /// Starts the formatting of the data directory; [`Node::formatted`] waits for its end.
    pub(super) fn format(&self, cluster: &str) -> Result<Child, HarnessError> {
        let mut command = Command::new(process::java());
        command
            .args(JVM)
            .args(self.class("kafka.tools.StorageTool"))
            .args(["format", "-t", cluster, "-c"]);
        process::start(
            "java (kafka.tools.StorageTool)",
            command.arg(&self.properties),
            &self.log,
        )
    }

    pub(super) fn formatted(&self, format: &mut Child) -> Result<(), HarnessError> {
        process::finish(
            "java (kafka.tools.StorageTool)",
            format,
            &self.log,
            FORMAT_DEADLINE,
        )
    }

    /// Starts the process. It takes seconds until the broker answers.
    pub(super) fn start(&self, watchdog: &Mutex<Watchdog>) -> Result<(), HarnessError> {
        let mut state = lock(&self.state);
        if !matches!(*state, State::Down) {
            return Err(self.wrong_state("start", "runs already"));
        }
        let mut child = self.launch()?;
        let mut input = child.stdin.take();
        let watched = lock(watchdog).watch(child.id());
        *state = State::Running(child);
        watched?;
        let word = input
            .as_mut()
            .map_or(Ok(()), |input| input.write_all(b"go\n"));
        word.map_err(HarnessError::io(format!("start node {}", self.index)))
    }

    fn launch(&self) -> Result<Child, HarnessError> {
        let output = process::append_to(&self.log)?;
        let errors = output
            .try_clone()
            .map_err(HarnessError::io("share a log file"))?;
        Command::new("sh")
            .args(["-c", LAUNCH, "keylane-kafka-node"])
            .arg(process::java())
            .args(JVM)
            .args(self.class("kafka.Kafka"))
            .arg(&self.properties)
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(HarnessError::io("start sh for a broker"))
    }

    fn class(&self, class: &str) -> [String; 3] {
        [
            "-cp".to_owned(),
            format!("{}/*", self.libs.display()),
            class.to_owned(),
        ]
    }

    /// `kill -9`: nothing is handed over, nothing is flushed. Harmless when the node is down.
    pub(super) fn kill(&self, watchdog: &Mutex<Watchdog>) -> Result<(), HarnessError> {
        let mut state = lock(&self.state);
        let (State::Running(child) | State::Suspended(child)) = &mut *state else {
            return Ok(());
        };
        let doing = format!("kill node {}", self.index);
        child.kill().map_err(HarnessError::io(doing.clone()))?;
        let forgotten = lock(watchdog).forget(child.id());
        child.wait().map_err(HarnessError::io(doing))?;
        *state = State::Down;
        forgotten
    }

    /// Sends the broker SIGTERM and waits for its end; kills it if it does not end.
    pub(super) fn stop(&self, watchdog: &Mutex<Watchdog>) -> Result<(), HarnessError> {
        {
            let mut state = lock(&self.state);
            let State::Running(child) = &mut *state else {
                return Err(self.wrong_state("stop", "does not run"));
            };
            self.signal(child, Signal::TERM, "stop")?;
            let doing = HarnessError::io(format!("stop node {}", self.index));
            if process::wait(child, STOP_DEADLINE)
                .map_err(doing)?
                .is_some()
            {
                lock(watchdog).forget(child.id())?;
                *state = State::Down;
                return Ok(());
            }
        }
        self.kill(watchdog)?;
        Err(HarnessError::Deadline {
            what: format!(
                "node {} ended after SIGTERM (it was killed then)",
                self.index
            ),
            after: STOP_DEADLINE,
            last: process::tail(&self.log),
        })
    }

    /// `SIGSTOP`: connections stay open and nothing is answered.
    pub(super) fn suspend(&self) -> Result<(), HarnessError> {
        let mut state = lock(&self.state);
        match std::mem::replace(&mut *state, State::Down) {
            State::Running(child) => {
                let sent = self.signal(&child, Signal::STOP, "suspend");
                *state = if sent.is_ok() {
                    State::Suspended(child)
                } else {
                    State::Running(child)
                };
                sent
            }
            other => {
                *state = other;
                Err(self.wrong_state("suspend", "does not run"))
            }
        }
    }

    /// `SIGCONT`: the end of [`Node::suspend`].
    pub(super) fn resume(&self) -> Result<(), HarnessError> {
        let mut state = lock(&self.state);
        match std::mem::replace(&mut *state, State::Down) {
            State::Suspended(child) => {
                let sent = self.signal(&child, Signal::CONT, "continue");
                *state = if sent.is_ok() {
                    State::Running(child)
                } else {
                    State::Suspended(child)
                };
                sent
            }
            other => {
                *state = other;
                Err(self.wrong_state("continue", "is not suspended"))
            }
        }
    }

    /// An error with the end of the log when the process has ended by itself.
    pub(super) fn check_alive(&self, watchdog: &Mutex<Watchdog>) -> Result<(), HarnessError> {
        let mut state = lock(&self.state);
        let State::Running(child) = &mut *state else {
            return Err(self.wrong_state("reach", "does not run"));
        };
        let doing = HarnessError::io(format!("look at node {}", self.index));
        if let Some(status) = child.try_wait().map_err(doing)? {
            lock(watchdog).forget(child.id())?;
            *state = State::Down;
            if process::contains(&self.log, "Address already in use") {
                return Err(HarnessError::PortTaken { index: self.index });
            }
            let (status, log) = (status.to_string(), self.log_tail());
            return Err(HarnessError::NodeEnded {
                index: self.index,
                status,
                log,
            });
        }
        Ok(())
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(&*lock(&self.state), State::Running(_))
    }

    pub(super) fn pid(&self) -> Option<u32> {
        match &*lock(&self.state) {
            State::Down => None,
            State::Running(child) | State::Suspended(child) => Some(child.id()),
        }
    }

    pub(super) fn log_tail(&self) -> String {
        process::tail(&self.log)
    }

    /// The child is not reaped before it leaves the state, so its id cannot belong to another
    /// process.
    fn signal(&self, child: &Child, signal: Signal, doing: &str) -> Result<(), HarnessError> {
        kill_process(Pid::from_child(child), signal).map_err(|errno| HarnessError::Io {
            doing: format!("{doing} node {}", self.index),
            source: errno.into(),
        })
    }

    fn wrong_state(&self, doing: &'static str, state: &'static str) -> HarnessError {
        HarnessError::WrongState {
            doing,
            index: self.index,
            state,
        }
    }
}

/// A panic elsewhere leaves these states usable: each change of them is one assignment.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
