//! What a member does with a record, and what it notes about itself.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use keylane::{Processor, Success, Task, TaskError};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Layer};

use crate::{
    downstream::{Downstream, Failing},
    fate::{Fate, Value},
    journal::{Attempt, Journal, Note, Outcome},
};

/// How often each partition was assigned to this process.
#[derive(Debug, Default)]
pub struct Epochs(Mutex<HashMap<(String, i32), u32>>);

impl Epochs {
    fn begin(&self, topic: &str, partition: i32) -> u32 {
        let mut epochs = self.lock();
        let epoch = epochs.entry((topic.to_owned(), partition)).or_default();
        *epoch += 1;
        *epoch
    }

    fn current(&self, topic: &str, partition: i32) -> u32 {
        self.lock()
            .get(&(topic.to_owned(), partition))
            .copied()
            .unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, i32), u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The processor: it acts out each record's fate and notes beginning and end.
pub fn process(
    journal: Arc<Journal>,
    epochs: Arc<Epochs>,
    downstream: Downstream,
) -> impl Processor<Bytes, Success> {
    move |task: Task<Bytes>| {
        let value: Result<Value, _> = String::from_utf8_lossy(task.payload()).parse();
        let (journal, epochs, downstream) = (journal.clone(), epochs.clone(), downstream.clone());
        async move {
            let value = value.map_err(TaskError::fatal)?;
            let attempt = Attempt {
                topic: task.topic().to_owned(),
                partition: task.partition(),
                offset: task.offset(),
                key: task.key_str().map(str::to_owned),
                id: value.id,
                epoch: epochs.current(task.topic(), task.partition()),
                attempt: task.attempt(),
            };
            journal.note(Note::Started(attempt.clone()));
            let mut running = Running {
                journal,
                attempt: Some(attempt),
                outcome: Outcome::CutOff,
            };
            // What ends its process, or hangs, does so before it needs anything.
            if let Some((failing, error)) = downstream
                .check(task.key_str(), value.id)
                .filter(|_| value.fate.needs())
            {
                running.outcome = match failing {
                    Failing::Retryable => Outcome::Away,
                    Failing::Unavailable => Outcome::Unavailable,
                };
                return Err(error);
            }
            let result = act(value.fate, task.attempt()).await;
            running.outcome = match (&result, value.fate) {
                (Ok(Success::Skipped { .. }), _) => Outcome::Skipped,
                (Ok(_), _) => Outcome::Done,
                (Err(_), _) => Outcome::Failed,
            };
            result
        }
    }
}

async fn act(fate: Fate, attempt: u32) -> Result<Success, TaskError> {
    tokio::time::sleep(fate.work()).await;
    match fate {
        Fate::Fails(times) if attempt <= times => Err(TaskError::retryable("as planned")),
        Fate::Panics(times) if attempt <= times => panic!("as planned"),
        Fate::Hangs(times) if attempt <= times => std::future::pending().await,
        Fate::Fatal => Err(TaskError::fatal("as planned")),
        Fate::Skipped => Ok(Success::skipped("as planned")),
        Fate::Aborts => std::process::abort(),
        Fate::Works(_) | Fate::Fails(_) | Fate::Panics(_) | Fate::Hangs(_) => Ok(Success::Done),
    }
}

/// Notes the end of an attempt, however it comes, before keylane can know of it.
struct Running {
    journal: Arc<Journal>,
    attempt: Option<Attempt>,
    outcome: Outcome,
}

impl Drop for Running {
    fn drop(&mut self) {
        let outcome = if std::thread::panicking() {
            Outcome::Panicked
        } else {
            self.outcome
        };
        if let Some(attempt) = self.attempt.take() {
            self.journal.note(Note::Ended { attempt, outcome });
        }
    }
}

/// Reads the epochs off keylane's log: a processor does not get them, and the checks need them. If
/// the texts change, every attempt has the epoch 0, which the checks report.
#[derive(Debug)]
pub struct Watch {
    journal: Arc<Journal>,
    epochs: Arc<Epochs>,
}

impl Watch {
    /// Notes the events in the journal.
    pub fn new(journal: Arc<Journal>, epochs: Arc<Epochs>) -> Self {
        Self { journal, epochs }
    }
}

impl<S: Subscriber> Layer<S> for Watch {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if !event.metadata().target().starts_with("keylane") {
            return;
        }
        let mut words = Words::default();
        event.record(&mut words);
        if words.message == "partition assigned" {
            let (topic, partition) = (words.topic, words.partition);
            let epoch = self.epochs.begin(&topic, partition);
            self.journal.note(Note::Assigned {
                topic,
                partition,
                epoch,
            });
        } else if words
            .message
            .starts_with("the group has given this member's partitions away")
        {
            self.journal.note(Note::Lost);
        } else if words.message == "partitions given back" {
            self.journal.note(Note::GivenBack {
                dropped: words.dropped,
                took_ms: words.took_ms,
            });
        } else if words.message.starts_with("the coordinator does not answer")
            || words.message.starts_with("owners do not end")
        {
            self.journal.note(Note::Unanswered);
        } else if words.message.starts_with("a record is parked") {
            let Words {
                topic,
                partition,
                offset,
                ..
            } = words;
            self.journal.note(Note::Parked {
                topic,
                partition,
                offset,
            });
        } else if words
            .message
            .starts_with("the committed offsets' metadata cannot be read")
        {
            self.journal.note(Note::Unreadable);
        }
    }
}

/// The text of a line of the log.
pub(crate) fn message_of(event: &Event<'_>) -> String {
    let mut words = Words::default();
    event.record(&mut words);
    words.message
}

#[derive(Default)]
struct Words {
    message: String,
    topic: String,
    partition: i32,
    offset: i64,
    dropped: bool,
    took_ms: u64,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            "topic" => self.topic = format!("{value:?}"),
            "took" => self.took_ms = millis(&format!("{value:?}")),
            _ => {}
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            "topic" => value.clone_into(&mut self.topic),
            _ => {}
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        match field.name() {
            "partition" => self.partition = i32::try_from(value).unwrap_or(-1),
            "offset" => self.offset = value,
            _ => {}
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        if field.name() == "dropped" {
            self.dropped = value;
        }
    }
}

/// A duration of a log line, which is what its `Debug` shows: `1.5s`, `12.25ms`.
fn millis(shown: &str) -> u64 {
    let number = shown.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let unit = match &shown[number.len()..] {
        "s" => 1_000.0,
        "ms" => 1.0,
        // Microseconds or less.
        _ => 0.0,
    };
    (number.parse::<f64>().unwrap_or_default() * unit) as u64
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tracing_subscriber::layer::SubscriberExt;

    use super::{Epochs, Watch, millis};
    use crate::journal::{Journal, Note, read};

    #[test]
    fn assignments_are_counted_by_partition_and_what_the_checks_have_to_know_is_noted() {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let epochs = Arc::new(Epochs::default());
        let watch = Watch::new(Arc::new(Journal::open(&path).unwrap()), epochs.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(watch), || {
            for partition in [0, 1, 0] {
                let topic = "t";
                tracing::info!(target: "keylane::consumer", %topic, partition, "partition assigned");
            }
            let took = Duration::from_micros(1_600_700);
            tracing::info!(target: "keylane::consumer", ?took, dropped = true, "partitions given back");
            tracing::warn!(
                target: "keylane::consumer",
                "the coordinator does not answer the commit before a hand-over; records may be repeated"
            );
            tracing::error!(target: "keylane::runtime", topic = "t", partition = 3, offset = 7_i64, "a record is parked: why");
            tracing::warn!(
                target: "keylane::consumer",
                "the group has given this member's partitions away; what runs there is dropped"
            );
        });
        let assigned = |partition, epoch| Note::Assigned {
            topic: "t".into(),
            partition,
            epoch,
        };
        let noted: Vec<Note> = read(&path)
            .unwrap()
            .into_iter()
            .map(|line| line.what)
            .collect();
        let parked = Note::Parked {
            topic: "t".into(),
            partition: 3,
            offset: 7,
        };
        let given_back = Note::GivenBack {
            dropped: true,
            took_ms: 1_600,
        };
        let assigned = [assigned(0, 1), assigned(1, 1), assigned(0, 2)];
        let expected = [
            &assigned[..],
            &[given_back, Note::Unanswered, parked, Note::Lost],
        ]
        .concat();
        assert_eq!(noted, expected);
        assert_eq!((epochs.current("t", 0), epochs.current("t", 2)), (2, 0));
    }

    #[test]
    fn a_duration_is_read_as_it_is_shown() {
        for took in [0, 7, 999, 1_000, 61_234] {
            assert_eq!(millis(&format!("{:?}", Duration::from_millis(took))), took);
        }
        assert_eq!(millis(&format!("{:?}", Duration::from_micros(900))), 0);
    }
}
