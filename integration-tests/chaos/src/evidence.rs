//! What a run leaves behind besides the journals: the topics as they were read back, and the
//! commits as they were seen.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use keylane_integration_tests::kafka::{HarnessError, Kafka, StoredRecord};
use serde::{Deserialize, Serialize};

use crate::{
    clock::{Nanos, WallClock},
    fate::Value,
    load::Acknowledged,
    schedule::Schedule,
    settings::Common,
};

/// How long a commit may be on its way where nothing else is said. Generous: many of these
/// processes share a machine.
pub const COMMIT_GRACE_MS: u64 = 1_000;

/// The schedule of a run.
pub const SCHEDULE: &str = "schedule.json";
/// The program's own journal.
pub const PROGRAM: &str = "program.jsonl";
/// The file of [`Evidence`].
const EVIDENCE: &str = "evidence.json";
/// The members' journals and logs.
const MEMBERS: &str = "members";

/// A record of the origin topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Produced {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The key.
    pub key: Option<String>,
    /// The value; its number is `u64::MAX` where it is not of this program.
    pub value: String,
}

/// A record of the retry topic, or a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// The partition it lies in.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// When the broker appended it.
    pub at: Nanos,
    /// The record's number.
    pub id: u64,
    /// Why it was written.
    pub reason: String,
    /// How often it went through the retry topic; 0 for a dead letter.
    pub round: u32,
    /// The group that wrote it.
    #[serde(default)]
    pub group: String,
}

/// Which of the two consumed topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The origin topic.
    Origin,
    /// The retry topic.
    Retry,
}

/// What the group had committed for a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// When the answer was there.
    pub at: Nanos,
    /// The topic.
    pub source: Source,
    /// The partition.
    pub partition: i32,
    /// The committed offset; 0 where there is none.
    pub position: i64,
    /// The first and the last offset of each run that the metadata names above it.
    pub ahead: Vec<(i64, i64)>,
}

/// What a run leaves behind besides the journals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The schedule.
    pub schedule: Schedule,
    /// What the members had in common.
    pub common: Common,
    /// How long a commit may take, beyond the commit interval, before its content counts as
    /// committed.
    #[serde(default = "commit_grace_ms")]
    pub commit_grace_ms: u64,
    /// The origin topic.
    pub produced: Vec<Produced>,
    /// What the brokers had acknowledged.
    pub acknowledged: Vec<Acknowledged>,
    /// What the client of the producer gave up.
    pub refused: usize,
    /// What the group wrote into the retry topic.
    pub retries: Vec<Written>,
    /// Where the records of another group lie in the retry topic: partition and offset.
    #[serde(default)]
    pub foreign_retries: Vec<(i32, i64)>,
    /// The dead letters, those of a topic that was deleted included.
    pub dead_letters: Vec<Written>,
    /// The commits seen, each where it differs from the one before, in order.
    pub samples: Vec<Sample>,
    /// When the coordinator said that the group rebalances: from the first look to the last.
    /// Classic protocol only.
    #[serde(default)]
    pub rebalances: Vec<(Nanos, Nanos)>,
    /// Metadata of commits that could not be read.
    pub unreadable: Vec<String>,
    /// How long it took until all was committed, after everything was healed; `None` where that
    /// never came.
    pub quiet_after_ms: Option<u64>,
    /// Whether the members had to be started again for that, to take up records that were parked.
    pub final_restart: bool,
    /// Processes that ended by themselves with an error.
    pub members_failed: usize,
}

impl Evidence {
    /// Writes it into the directory of the run.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, directory: &Path) -> io::Result<()> {
        let mut file = BufWriter::new(File::create(directory.join(EVIDENCE))?);
        serde_json::to_writer(&mut file, self)?;
        file.flush()
    }

    /// Reads it from the directory of a run.
    ///
    /// # Errors
    /// When there is none, or it is of another version of this program.
    pub fn load(directory: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&fs::read(
            directory.join(EVIDENCE),
        )?)?)
    }
}

/// That of runs from before it could be chosen.
fn commit_grace_ms() -> u64 {
    COMMIT_GRACE_MS
}

/// The topic whose log was cut, in the end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cuts {
    /// What is in the log.
    pub log: Vec<Produced>,
    /// What the group has committed, by partition.
    pub committed: Vec<(i32, i64)>,
    /// What the brokers had acknowledged; some of it was cut.
    pub acknowledged: Vec<Acknowledged>,
    /// The dead letters: none of these records is to be one.
    pub dead_letters: Vec<Written>,
}

impl Cuts {
    /// Writes it into the directory of the run.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, directory: &Path) -> io::Result<()> {
        let mut file = BufWriter::new(File::create(cut(directory).join(EVIDENCE))?);
        serde_json::to_writer(&mut file, self)?;
        file.flush()
    }

    /// Reads it from the directory of a run; nothing where no log was to be cut.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn load(directory: &Path) -> io::Result<Option<Self>> {
        let file = cut(directory).join(EVIDENCE);
        if !file.exists() {
            return Ok(None);
        }
        Ok(Some(serde_json::from_slice(&fs::read(file)?)?))
    }
}

/// What the second group of a run leaves: the same files but the schedule and the program's
/// journal.
pub fn second(directory: &Path) -> PathBuf {
    directory.join("second")
}

/// What the group of the cut topic leaves.
pub fn cut(directory: &Path) -> PathBuf {
    directory.join("cut")
}

/// Whether a group left its evidence there.
pub fn is_there(directory: &Path) -> bool {
    directory.join(EVIDENCE).exists()
}

/// Where the members write.
pub fn members(directory: &Path) -> PathBuf {
    directory.join(MEMBERS)
}

/// The origin topic.
///
/// # Errors
/// As [`Kafka::read_all`].
pub async fn read_origin(kafka: &Kafka, topic: &str) -> Result<Vec<Produced>, HarnessError> {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let produced = |record: StoredRecord| Produced {
        partition: record.partition,
        offset: record.offset,
        key: record.key.map(text),
        value: record.value.map(text).unwrap_or_default(),
    };
    Ok(kafka
        .read_all(topic)
        .await?
        .into_iter()
        .map(produced)
        .collect())
}

/// The key of records that are written only to see whether they are taken.
pub const PROBE: &str = "probe";

/// The retry topic or the dead letters, whose time stamps are the broker's.
///
/// # Errors
/// As [`Kafka::read_all`].
pub async fn read_written(kafka: &Kafka, topic: &str) -> Result<Vec<Written>, HarnessError> {
    let clock = WallClock::read();
    let written = |record: StoredRecord| {
        let value: Result<Value, _> =
            String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).parse();
        Written {
            partition: record.partition,
            offset: record.offset,
            at: clock.nanos(record.timestamp_millis.unwrap_or_default()),
            id: value.map_or(u64::MAX, |value| value.id),
            reason: record
                .header("keylane-reason")
                .unwrap_or_default()
                .to_owned(),
            group: record
                .header("keylane-group")
                .unwrap_or_default()
                .to_owned(),
            round: record
                .header("keylane-retry-round")
                .and_then(|round| round.parse().ok())
                .unwrap_or_default(),
        }
    };
    let records = kafka.read_all(topic).await?.into_iter();
    Ok(records
        .filter(|record| record.key.as_deref() != Some(PROBE.as_bytes()))
        .map(written)
        .collect())
}
