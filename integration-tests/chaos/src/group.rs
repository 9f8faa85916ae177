//! The members' processes and their supervisor: who dies is started again.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    downstream::Downstream,
    journal::{Deed, Journal, Sent},
    planted::{Planted, file_of, went_off},
    programs::{Programs, Version},
    settings::{Common, Member, Tuning},
};

/// How often the supervisor looks.
const LOOK: Duration = Duration::from_millis(10);
/// How long one stays away that died by itself.
const RESTART_DELAY: Duration = Duration::from_millis(500);
/// How long one may take to end after a panic in one of keylane's threads: its shutdown, what the
/// client may take to close, and a busy machine.
pub const ENDS_AFTER_A_PANIC: Duration = Duration::from_secs(90);

/// Who is started.
#[derive(Debug)]
pub struct Crew<'a> {
    /// What they have in common.
    pub common: Common,
    /// Their first settings.
    pub tuning: Tuning,
    /// How many.
    pub members: usize,
    /// How their names begin; different for each group of a run.
    pub prefix: &'static str,
    /// Where they write.
    pub directory: &'a Path,
    /// What their processors wait for.
    pub downstream: Downstream,
}

/// The members of the group.
#[derive(Debug)]
pub struct Group {
    state: Arc<Mutex<State>>,
    end: Arc<AtomicBool>,
    supervisor: Option<JoinHandle<()>>,
    /// How many processes ended without an order, and not by a signal.
    failed: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct State {
    common: Common,
    tuning: Tuning,
    programs: Programs,
    version: Version,
    prefix: &'static str,
    directory: PathBuf,
    downstream: Downstream,
    deeds: Arc<Journal>,
    slots: Vec<Slot>,
}

#[derive(Debug)]
struct Slot {
    /// Whether a process is to run here.
    wanted: bool,
    version: Version,
    /// When the next one may start.
    not_before: Instant,
    incarnations: usize,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    name: String,
    version: Version,
    child: Child,
    /// Whether it was ordered to end.
    terminated: bool,
    stopped: bool,
    /// Its journal.
    journal: PathBuf,
    /// When it was to panic.
    panics: Option<Instant>,
}

impl Group {
    /// Starts a supervisor for members that run `version` at first.
    pub fn start(
        crew: Crew<'_>,
        (programs, version): (Programs, Version),
        deeds: Arc<Journal>,
    ) -> Self {
        let Crew {
            common,
            tuning,
            members,
            prefix,
            directory,
            downstream,
        } = crew;
        let state = Arc::new(Mutex::new(State {
            common,
            tuning,
            programs,
            version,
            prefix,
            directory: directory.to_owned(),
            downstream,
            deeds,
            slots: (0..members).map(|_| Slot::wanted(version)).collect(),
        }));
        let (end, failed) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        // A thread of its own that lives as long as they do: a member ends with the thread that
        // started it.
        let supervisor = std::thread::spawn({
            let (state, end, failed) = (state.clone(), end.clone(), failed.clone());
            move || {
                while !end.load(Ordering::SeqCst) {
                    lock(&state).supervise(&failed);
                    std::thread::sleep(LOOK);
                }
                lock(&state).kill_all();
            }
        });
        Self {
            state,
            end,
            supervisor: Some(supervisor),
            failed,
        }
    }

    /// How many places are to have a member.
    pub fn wanted(&self) -> Vec<usize> {
        let state = self.lock();
        (0..state.slots.len())
            .filter(|&slot| state.slots[slot].wanted)
            .collect()
    }

    /// The settings of members that start from now on.
    pub fn tune(&self, tuning: Tuning) {
        self.lock().tuning = tuning;
    }

    /// The version of members at new places.
    pub fn set_version(&self, version: Version) {
        self.lock().version = version;
    }

    /// The version of members that start at this place from now on.
    pub fn set_version_at(&self, slot: usize, version: Version) {
        self.lock().slots[slot].version = version;
    }

    /// Plants a panic in a process: in that at the place, or else in the next one that runs and has
    /// none planted.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn plant(&self, slot: usize, planted: Planted) -> io::Result<()> {
        let mut state = self.lock();
        let first = slot.min(state.slots.len());
        let (before, from) = state.slots.split_at_mut(first);
        let mut running = from
            .iter_mut()
            .chain(before)
            .filter_map(|slot| slot.running.as_mut());
        let Some(running) = running.find(|running| !running.terminated && running.panics.is_none())
        else {
            return Ok(());
        };
        running.panics = Some(Instant::now());
        let new = running.journal.with_extension("new");
        fs::write(&new, serde_json::to_vec(&planted)?)?;
        fs::rename(new, file_of(&running.journal))
    }

    /// The version that runs at the place, if one does and was not ordered to end.
    pub fn version(&self, slot: usize) -> Option<Version> {
        let state = self.lock();
        state.slots[slot]
            .running
            .as_ref()
            .filter(|running| !running.terminated)
            .map(|running| running.version)
    }

    /// Sends `SIGKILL`; the next one starts after `away`. Nothing happens where none runs, or one
    /// is stopped.
    pub fn kill(&self, slot: usize, away: Duration) {
        let mut state = self.lock();
        if state.signal(slot, Sent::Kill) {
            state.slots[slot].not_before = Instant::now() + away;
        }
    }

    /// Stops or continues a member; `false` where none runs.
    pub fn pause(&self, slot: usize, paused: bool) -> bool {
        self.lock()
            .signal(slot, if paused { Sent::Stop } else { Sent::Continue })
    }

    /// Ends a member in order and starts another in its place.
    pub fn terminate(&self, slot: usize) {
        self.lock().signal(slot, Sent::Terminate);
    }

    /// Whether a process that was not ordered to end runs at the place.
    pub fn runs(&self, slot: usize) -> bool {
        self.lock().slots[slot]
            .running
            .as_ref()
            .is_some_and(|running| !running.terminated)
    }

    /// The name of the process at the place.
    pub fn name(&self, slot: usize) -> Option<String> {
        self.lock().slots[slot]
            .running
            .as_ref()
            .map(|running| running.name.clone())
    }

    /// Adds members.
    pub fn join(&self, members: usize) {
        let mut state = self.lock();
        for _ in 0..members {
            match state
                .slots
                .iter()
                .position(|slot| !slot.wanted && slot.running.is_none())
            {
                Some(free) => state.slots[free].wanted = true,
                None => {
                    let version = state.version;
                    state.slots.push(Slot::wanted(version));
                }
            }
        }
    }

    /// Ends members in order, and starts none in their places.
    pub fn leave(&self, slots: &[usize]) {
        let mut state = self.lock();
        for &slot in slots {
            state.slots[slot].wanted = false;
            state.signal(slot, Sent::Terminate);
        }
    }

    /// Whether no member runs any longer.
    pub fn is_gone(&self) -> bool {
        self.lock().slots.iter().all(|slot| slot.running.is_none())
    }

    /// How many processes ended by themselves with an error.
    pub fn failed(&self) -> usize {
        self.failed.load(Ordering::SeqCst)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end.store(true, Ordering::SeqCst);
        if let Some(supervisor) = self.supervisor.take() {
            let _ = supervisor.join();
        }
    }
}

impl Slot {
    fn wanted(version: Version) -> Self {
        Self {
            wanted: true,
            version,
            not_before: Instant::now(),
            incarnations: 0,
            running: None,
        }
    }
}

impl State {
    fn supervise(&mut self, failed: &AtomicUsize) {
        for slot in 0..self.slots.len() {
            self.reap(slot, failed);
            self.end_hung(slot);
            let Slot {
                wanted,
                not_before,
                running,
                ..
            } = &self.slots[slot];
            if *wanted && running.is_none() && Instant::now() >= *not_before {
                self.spawn(slot);
            }
        }
    }

    fn reap(&mut self, slot: usize, failed: &AtomicUsize) {
        let Some(running) = &mut self.slots[slot].running else {
            return;
        };
        let Ok(Some(status)) = running.child.try_wait() else {
            return;
        };
        let orderly = status.code().is_some();
        if orderly && !(status.success() && running.terminated) {
            failed.fetch_add(1, Ordering::SeqCst);
            eprintln!("{} ended by itself: {status}", running.name);
        }
        self.deeds.note(Deed::Exited {
            member: running.name.clone(),
            orderly,
            status: status.to_string(),
        });
        let restart = if running.terminated {
            Duration::ZERO
        } else {
            RESTART_DELAY
        };
        let slot = &mut self.slots[slot];
        slot.running = None;
        slot.not_before = slot.not_before.max(Instant::now() + restart);
    }

    /// One that does not end after a panic in one of keylane's threads is killed, so that the run
    /// comes to an end.
    fn end_hung(&mut self, slot: usize) {
        let Some(running) = &mut self.slots[slot].running else {
            return;
        };
        let Some(since) = running
            .panics
            .filter(|since| since.elapsed() >= ENDS_AFTER_A_PANIC)
        else {
            return;
        };
        let path = went_off(&running.journal);
        let went_off = fs::metadata(path)
            .and_then(|metadata| metadata.modified())
            .ok();
        match went_off.and_then(|at| at.elapsed().ok()) {
            Some(ago) if ago >= ENDS_AFTER_A_PANIC && !running.stopped => {
                self.deeds.note(Deed::Hung {
                    member: running.name.clone(),
                });
                let _ = running.child.kill();
                running.panics = None;
            }
            // It went off late, or not yet: that is looked at again in a second.
            _ => running.panics = Some(since + Duration::from_secs(1)),
        }
    }

    fn spawn(&mut self, slot: usize) {
        let name = format!("{}{slot}.{}", self.prefix, self.slots[slot].incarnations);
        let journal = self.directory.join(format!("{name}.jsonl"));
        match self.launch(slot, &name, &journal) {
            Ok(child) => {
                self.deeds.note(Deed::Spawned {
                    member: name.clone(),
                });
                let slot = &mut self.slots[slot];
                slot.incarnations += 1;
                let version = slot.version;
                let (terminated, stopped, panics) = (false, false, None);
                slot.running = Some(Running {
                    name,
                    version,
                    child,
                    terminated,
                    stopped,
                    journal,
                    panics,
                });
            }
            Err(error) => {
                eprintln!("cannot start {name}: {error}");
                self.slots[slot].not_before = Instant::now() + Duration::from_secs(1);
            }
        }
    }

    fn launch(&self, slot: usize, name: &str, journal: &Path) -> io::Result<Child> {
        let settings = Member {
            common: self.common.clone(),
            tuning: self.tuning,
            slot,
            journal: journal.to_owned(),
            downstream: self.downstream.file().to_owned(),
        };
        let log = File::create(self.directory.join(format!("{name}.log")))?;
        Command::new(self.programs.of(self.slots[slot].version))
            .arg(serde_json::to_string(&settings).map_err(io::Error::other)?)
            // Records that panic are part of the plan; a trace for each would block its threads too
            // long.
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
    }

    /// One that was ordered to end is left alone, and one that is stopped only continues.
    fn signal(&mut self, slot: usize, sent: Sent) -> bool {
        let deeds = self.deeds.clone();
        let Some(running) = self
            .slots
            .get_mut(slot)
            .and_then(|slot| slot.running.as_mut())
        else {
            return false;
        };
        let allowed = match sent {
            Sent::Continue => running.stopped,
            Sent::Kill | Sent::Terminate | Sent::Stop => !running.stopped && !running.terminated,
        };
        if !allowed {
            return false;
        }
        running.stopped = sent == Sent::Stop;
        running.terminated |= sent == Sent::Terminate;
        // Noted first: what it does to others comes after it.
        deeds.note(Deed::Signalled {
            member: running.name.clone(),
            signal: sent,
        });
        let signal = match sent {
            Sent::Kill => Signal::KILL,
            Sent::Terminate => Signal::TERM,
            Sent::Stop => Signal::STOP,
            Sent::Continue => Signal::CONT,
        };
        // It is not reaped before it leaves its place, so its id is its own.
        let _ = kill_process(Pid::from_child(&running.child), signal);
        true
    }

    fn kill_all(&mut self) {
        for running in self
            .slots
            .iter_mut()
            .filter_map(|slot| slot.running.as_mut())
        {
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
