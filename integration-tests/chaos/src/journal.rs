//! The journals: one file per process, a line per event, each written with one call, so that a
//! process that is killed leaves whole lines.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    clock::{Nanos, now},
    downstream::Outage,
    planted::Planted,
};

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The processor succeeded.
    Done,
    /// The processor said that the record is to be skipped, which settles it.
    Skipped,
    /// The processor failed.
    Failed,
    /// The processor panicked.
    Panicked,
    /// The attempt was dropped: a time-out, a drain deadline, a lost assignment.
    CutOff,
    /// What the record needs was away, and the processor failed with an error that is retried by
    /// the policy.
    Away,
    /// The same with `TaskError::unavailable`.
    Unavailable,
}

/// What a member notes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Note {
    /// The process is up.
    Up {
        /// Its commit interval.
        commit_interval_ms: u64,
    },
    /// It began to shut down.
    Stopping,
    /// Its subscription has ended.
    Down {
        /// The error of a subscription that failed.
        error: Option<String>,
    },
    /// A partition was assigned: an epoch begins.
    Assigned {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The epoch, counted from 1 for each partition of a process.
        epoch: u32,
    },
    /// The whole assignment was lost.
    Lost,
    /// Partitions were given back after their drain.
    GivenBack {
        /// Whether attempts were dropped at the drain's deadline.
        dropped: bool,
        /// How long it took; 0 in older journals.
        #[serde(default)]
        took_ms: u64,
    },
    /// Partitions are about to be given back without the broker's answer to their last commit, or
    /// with owners that do not end.
    Unanswered,
    /// A record was parked.
    Parked {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset.
        offset: i64,
    },
    /// A panic that was planted in one of keylane's threads goes off.
    Planted {
        /// In which.
        place: Planted,
    },
    /// The commits of new partitions could not be read: they were delivered from the committed
    /// offset without a map.
    Unreadable,
    /// An attempt began.
    Started(Attempt),
    /// An attempt ended.
    Ended {
        /// The attempt.
        #[serde(flatten)]
        attempt: Attempt,
        /// How.
        outcome: Outcome,
    },
}

/// One call of the processor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The key.
    pub key: Option<String>,
    /// The record's number.
    pub id: u64,
    /// The member's epoch of the partition; 0 where it was never assigned.
    pub epoch: u32,
    /// Which attempt, counted from 1.
    pub attempt: u32,
}

/// What the program itself notes: everything it does to the members, the brokers and the topics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Deed {
    /// A member's process was started.
    Spawned {
        /// The member.
        member: String,
    },
    /// A member's process got a signal.
    Signalled {
        /// The member.
        member: String,
        /// Which.
        signal: Sent,
    },
    /// A member's process ended.
    Exited {
        /// The member.
        member: String,
        /// Whether it ended by itself, with or without an error; otherwise by a signal, that of an
        /// abort included.
        orderly: bool,
        /// How, in words.
        status: String,
    },
    /// A broker, or the topic that failures are written to, stopped to serve.
    Out {
        /// Which.
        what: String,
    },
    /// It serves again, with all its replicas.
    Back {
        /// Which.
        what: String,
    },
    /// Leaders were moved.
    LeadersMoved,
    /// What the processors wait for went away.
    Away {
        /// Whose records fail, and how.
        outage: Outage,
    },
    /// It is there again.
    Healed,
    /// A member did not end after a panic in one of keylane's threads, and was killed.
    Hung {
        /// Which.
        member: String,
    },
    /// The last record was written.
    LoadStopped,
}

/// A signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sent {
    /// `SIGKILL`.
    Kill,
    /// `SIGTERM`.
    Terminate,
    /// `SIGSTOP`.
    Stop,
    /// `SIGCONT`.
    Continue,
}

/// A line: what, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line<T> {
    /// When.
    pub at: Nanos,
    /// What.
    #[serde(flatten)]
    pub what: T,
}

/// A journal that is being written.
#[derive(Debug)]
pub struct Journal {
    file: File,
}

impl Journal {
    /// Opens a journal; what it holds stays.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: File::options().create(true).append(true).open(path)?,
        })
    }

    /// Writes a line with the time of now.
    ///
    /// # Panics
    /// When it cannot be written: a history with holes proves nothing.
    pub fn note(&self, what: impl Serialize) {
        let mut line = match serde_json::to_vec(&Line { at: now(), what }) {
            Ok(line) => line,
            Err(error) => panic!("a line of the journal cannot be encoded: {error}"),
        };
        line.push(b'\n');
        // One call: the operating system appends it as a whole.
        if let Err(error) = (&self.file).write_all(&line) {
            panic!("the journal cannot be written: {error}");
        }
    }
}

/// A journal that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line.
    #[error("line {line} of {} is damaged: {source}", path.display())]
    Line {
        /// In which file.
        path: PathBuf,
        /// Which, counted from 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
}

/// Reads a journal.
///
/// # Errors
/// When the file cannot be read, or a line is not one of `T`.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<Line<T>>, ReadError> {
    let text = std::fs::read_to_string(path).map_err(|source| ReadError::File {
        path: path.to_owned(),
        source,
    })?;
    let parse = |(index, line): (usize, &str)| {
        let damaged = |source| ReadError::Line {
            path: path.to_owned(),
            line: index + 1,
            source,
        };
        serde_json::from_str(line).map_err(damaged)
    };
    text.lines().enumerate().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::{Attempt, Journal, Note, Outcome, read};

    #[test]
    fn what_is_noted_is_read_again() {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let journal = Journal::open(&path).unwrap();
        let attempt = Attempt {
            topic: "t".into(),
            partition: 3,
            offset: 7,
            key: None,
            id: 9,
            epoch: 1,
            attempt: 2,
        };
        let notes = [
            Note::Up {
                commit_interval_ms: 500,
            },
            Note::Started(attempt.clone()),
            Note::Ended {
                attempt,
                outcome: Outcome::CutOff,
            },
            Note::GivenBack {
                dropped: true,
                took_ms: 1_600,
            },
            Note::Unanswered,
            Note::Down { error: None },
        ];
        for note in &notes {
            journal.note(note);
        }
        let lines = read::<Note>(&path).unwrap();
        assert_eq!(
            lines
                .iter()
                .map(|line| line.what.clone())
                .collect::<Vec<_>>(),
            notes
        );
        assert!(lines.is_sorted_by_key(|line| line.at));
    }
}
