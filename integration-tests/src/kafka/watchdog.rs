//! Brokers must not outlive the test process, however that one ends: statics are never dropped, and
//! a process that is killed or aborts drops nothing at all. So a small shell process holds the
//! reading end of a pipe from us. When the pipe closes, which the operating system does at our end
//! in any case, it kills the brokers and removes their data.

use std::{
    io::Write,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
};

use super::error::HarnessError;

/// Signals to the whole process group (ctrl-c) are ignored: the watchdog has to be the last one
/// standing. The data directory is removed in a few tries, since a dying broker may still write
/// into it.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
pids=
while read -r order pid; do
  case $order in
    watch) pids="$pids $pid" ;;
    forget)
      kept=
      for p in $pids; do [ "$p" = "$pid" ] || kept="$kept $p"; done
      pids=$kept ;;
  esac
done
for p in $pids; do kill -9 "$p" 2>/dev/null; done
tries=0
until rm -rf -- "$1" 2>/dev/null || [ $tries -ge 50 ]; do tries=$((tries + 1)); sleep 0.1; done
"#;

/// Kills what it watches and removes `dir` as soon as this process ends or the value is dropped.
#[derive(Debug)]
pub(super) struct Watchdog {
    shell: Child,
    orders: Option<ChildStdin>,
}

impl Watchdog {
    pub(super) fn over(dir: &Path) -> Result<Self, HarnessError> {
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "keylane-kafka-watchdog"])
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(HarnessError::io("start sh as the brokers' watchdog"))?;
        let orders = shell.stdin.take();
        Ok(Self { shell, orders })
    }

    /// To be called before the process does anything that would have to be undone.
    pub(super) fn watch(&mut self, pid: u32) -> Result<(), HarnessError> {
        self.order("watch", pid)
    }

    /// To be called before the process is reaped: afterwards its id may belong to another process.
    pub(super) fn forget(&mut self, pid: u32) -> Result<(), HarnessError> {
        self.order("forget", pid)
    }

    fn order(&mut self, order: &str, pid: u32) -> Result<(), HarnessError> {
        let Some(orders) = &mut self.orders else {
            return Ok(());
        };
        orders
            .write_all(format!("{order} {pid}\n").as_bytes())
            .map_err(HarnessError::io("reach the brokers' watchdog"))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.shell.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt, process::Command, time::Duration};

    use super::{super::process, Watchdog};

    #[test]
    fn the_end_of_the_pipe_kills_the_watched_spares_the_forgotten_and_removes_the_data() {
        let data = tempfile::tempdir().unwrap().keep();
        std::fs::write(data.join("segment"), "bytes").unwrap();
        let sleeper = || Command::new("sleep").arg("1000").spawn().unwrap();
        let (mut watched, mut forgotten) = (sleeper(), sleeper());

        let mut watchdog = Watchdog::over(&data).unwrap();
        watchdog.watch(forgotten.id()).unwrap();
        watchdog.watch(watched.id()).unwrap();
        watchdog.forget(forgotten.id()).unwrap();
        drop(watchdog);

        let status = process::wait(&mut watched, Duration::from_secs(60))
            .unwrap()
            .expect("the watched one lives");
        assert_eq!(status.signal(), Some(9));
        assert_eq!(forgotten.try_wait().unwrap(), None);
        assert!(!data.exists());
        forgotten.kill().unwrap();
        forgotten.wait().unwrap();
    }
}
