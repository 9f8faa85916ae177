//! Panics in keylane's own threads, from outside: a recorder of metrics, or a layer of the log,
//! that panics when it is called there. keylane has no hook for it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use serde::{Deserialize, Serialize};
use tracing::Subscriber;
use tracing_subscriber::layer::{Context, Layer};

use crate::{
    journal::{Journal, Note},
    member::message_of,
};

/// How often a member looks whether a panic is planted.
const LOOK: Duration = Duration::from_millis(50);
const COMMITS: &str = "keylane_commits_total";

/// Where a panic is planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Planted {
    /// In the polling thread.
    Poll,
    /// In a callback of the Kafka client, which C calls: the word on a commit.
    Callback,
    /// In a partition's owner.
    Owner,
    /// In the polling thread, while it opens a partition of a new assignment.
    Assignment,
    /// In the polling thread, at the end of a hand-over.
    HandOver,
}

impl Planted {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Poll,
        Self::Callback,
        Self::Owner,
        Self::Assignment,
        Self::HandOver,
    ];

    /// Whether a call about this metric is the place.
    fn is_at_metric(self, name: &str, thread: &str) -> bool {
        let polls = thread.starts_with("keylane-poll");
        match self {
            Self::Poll => polls && name != COMMITS,
            Self::Callback => polls && name == COMMITS,
            Self::Owner => thread.starts_with("tokio") && name.starts_with("keylane_"),
            Self::Assignment | Self::HandOver => false,
        }
    }

    fn is_at_line(self, message: &str) -> bool {
        match self {
            Self::Assignment => message == "partition assigned",
            Self::HandOver => message == "partitions given back",
            Self::Poll | Self::Callback | Self::Owner => false,
        }
    }
}

/// Where a member with this journal reads what is planted.
pub fn file_of(journal: &Path) -> PathBuf {
    journal.with_extension("panic")
}

/// Where it notes that it has panicked.
pub fn went_off(journal: &Path) -> PathBuf {
    journal.with_extension("panicked")
}

/// What is planted in this process.
#[derive(Debug)]
pub struct Panics {
    is_planted: AtomicBool,
    planted: Mutex<Option<Planted>>,
    journal: Arc<Journal>,
    path: PathBuf,
}

impl Panics {
    /// Reads what is planted from the file beside the journal at `path`, all the time.
    pub fn watch(journal: Arc<Journal>, path: &Path) -> Arc<Self> {
        let panics = Arc::new(Self::none(journal, path));
        let watched = panics.clone();
        std::thread::spawn(move || {
            while !watched.look() {
                std::thread::sleep(LOOK);
            }
        });
        panics
    }

    fn none(journal: Arc<Journal>, path: &Path) -> Self {
        Self {
            is_planted: AtomicBool::new(false),
            planted: Mutex::default(),
            journal,
            path: path.to_owned(),
        }
    }

    /// Plants the panic of the file; `false` where there is none.
    fn look(&self) -> bool {
        let planted = fs::read(file_of(&self.path))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok());
        if planted.is_some() {
            *self.planted.lock().unwrap_or_else(PoisonError::into_inner) = planted;
            self.is_planted.store(true, Ordering::Release);
        }
        planted.is_some()
    }

    /// Panics where that is planted here; once.
    fn step(&self, is_here: impl FnOnce(Planted) -> bool) {
        if !self.is_planted.load(Ordering::Acquire) {
            return;
        }
        let mut planted = self.planted.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(place) = planted.take_if(|place| is_here(*place)) else {
            return;
        };
        drop(planted);
        self.is_planted.store(false, Ordering::Release);
        self.journal.note(Note::Planted { place });
        let _ = fs::write(went_off(&self.path), "");
        panic!("planted");
    }
}

/// The recorder that panics.
#[derive(Debug)]
pub struct PanickingRecorder(pub Arc<Panics>);

struct Handle {
    name: String,
    panics: Arc<Panics>,
}

impl Handle {
    fn of(recorder: &PanickingRecorder, key: &Key) -> Arc<Self> {
        Arc::new(Self {
            name: key.name().to_owned(),
            panics: recorder.0.clone(),
        })
    }

    fn called(&self) {
        let thread = std::thread::current();
        self.panics
            .step(|place| place.is_at_metric(&self.name, thread.name().unwrap_or_default()));
    }
}

impl CounterFn for Handle {
    fn increment(&self, _: u64) {
        self.called();
    }

    fn absolute(&self, _: u64) {
        self.called();
    }
}

impl GaugeFn for Handle {
    fn increment(&self, _: f64) {
        self.called();
    }

    fn decrement(&self, _: f64) {
        self.called();
    }

    fn set(&self, _: f64) {
        self.called();
    }
}

impl HistogramFn for Handle {
    fn record(&self, _: f64) {
        self.called();
    }
}

impl Recorder for PanickingRecorder {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Handle::of(self, key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Handle::of(self, key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Handle::of(self, key))
    }
}

/// The layer that panics.
#[derive(Debug)]
pub struct PanickingLayer(pub Arc<Panics>);

impl<S: Subscriber> Layer<S> for PanickingLayer {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if event.metadata().target().starts_with("keylane")
            && self.0.is_planted.load(Ordering::Acquire)
        {
            let message = message_of(event);
            self.0.step(|place| place.is_at_line(&message));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        sync::Arc,
    };

    use tracing_subscriber::layer::SubscriberExt;

    use super::{PanickingLayer, PanickingRecorder, Panics, Planted, file_of, went_off};
    use crate::journal::{Journal, Note, read};

    fn panics(call: impl FnOnce()) -> bool {
        catch_unwind(AssertUnwindSafe(call)).is_err()
    }

    #[test]
    fn what_is_planted_goes_off_once_where_it_is_planted_and_is_noted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("m0.0.jsonl");
        let planted = Arc::new(Panics::none(Arc::new(Journal::open(&path).unwrap()), &path));
        let plant = |place: Planted| {
            std::fs::write(file_of(&path), serde_json::to_vec(&place).unwrap()).unwrap();
            assert!(planted.look());
        };
        let call = |thread: &str, name: &'static str| {
            let recorder = PanickingRecorder(planted.clone());
            let call = move || {
                metrics::with_local_recorder(&recorder, || metrics::counter!(name).increment(1))
            };
            std::thread::Builder::new()
                .name(thread.to_owned())
                .spawn(move || panics(call))
                .unwrap()
                .join()
                .unwrap()
        };
        assert!(!planted.look() && !call("keylane-poll-g", "keylane_rebalances_total"));
        for (place, thread, name) in [
            (Planted::Poll, "keylane-poll-g", "keylane_rebalances_total"),
            (Planted::Callback, "keylane-poll-g", "keylane_commits_total"),
            (Planted::Owner, "tokio-rt-worker", "keylane_records_total"),
        ] {
            plant(place);
            assert!(!call("main", name), "{place:?}");
            assert!(call(thread, name) && !call(thread, name), "{place:?}");
        }
        plant(Planted::Assignment);
        assert!(!call("keylane-poll-g", "keylane_rebalances_total"));
        let line = || {
            let layer = tracing_subscriber::registry().with(PanickingLayer(planted.clone()));
            tracing::subscriber::with_default(layer, || {
                tracing::info!(target: "keylane::consumer", "partition assigned");
            });
        };
        assert!(panics(line) && !panics(line));
        assert!(went_off(&path).exists());
        let noted: Vec<Note> = read(&path)
            .unwrap()
            .into_iter()
            .map(|line| line.what)
            .collect();
        let expected = [
            Planted::Poll,
            Planted::Callback,
            Planted::Owner,
            Planted::Assignment,
        ];
        assert_eq!(noted, expected.map(|place| Note::Planted { place }));
    }
}
