//! A Kafka in memory, with transactional ids that fence, and failures on demand.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use keylane::producer::outbox::{PublishError, Record};

use super::super::kafka::Kafka;

#[derive(Clone, Default)]
pub(super) struct FakeKafka {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
pub(super) struct State {
    epochs: BTreeMap<String, u64>,
    pub(super) log: Vec<Record>,
    pub(super) missing: BTreeSet<String>,
    /// Values that are refused; named, or only their transaction.
    pub(super) refused: BTreeSet<String>,
    pub(super) names_the_refused: bool,
    /// What the next transactions come to; the second says whether they are written all the same.
    pub(super) failures: VecDeque<(PublishError, bool)>,
    pub(super) transactions: usize,
    /// The largest transaction.
    pub(super) largest: usize,
}

pub(super) struct FakePublisher {
    cluster: FakeKafka,
    id: String,
    epoch: u64,
}

impl FakeKafka {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Another producer takes all ids that were ever taken.
    pub(super) fn fence_all(&self) {
        self.state()
            .epochs
            .values_mut()
            .for_each(|epoch| *epoch += 1);
    }

    /// Key, value and id of what is in the log, as text.
    pub(super) fn log(&self) -> Vec<(String, String, String)> {
        let text = |bytes: Option<&bytes::Bytes>| {
            String::from_utf8(bytes.map(|it| it.to_vec()).unwrap_or_default()).unwrap()
        };
        let state = self.state();
        let of = |record: &Record| {
            let id = record.headers.last("keylane-outbox-id");
            (
                text(record.key.as_ref()),
                text(record.value.as_ref()),
                text(id),
            )
        };
        state.log.iter().map(of).collect()
    }

    /// The values of a key, in order.
    pub(super) fn values_of(&self, key: &str) -> Vec<String> {
        let of_key = self.log().into_iter().filter(|(it, ..)| it == key);
        of_key.map(|(_, value, _)| value).collect()
    }
}

impl Kafka for FakeKafka {
    type Publisher = FakePublisher;

    fn take(&self, id: &str, _: Duration) -> Result<FakePublisher, PublishError> {
        let epoch = {
            let mut state = self.state();
            let epoch = state.epochs.entry(id.to_owned()).or_default();
            *epoch += 1;
            *epoch
        };
        Ok(FakePublisher {
            cluster: self.clone(),
            id: id.to_owned(),
            epoch,
        })
    }

    fn publish(publisher: &mut FakePublisher, records: &[Record]) -> Result<(), PublishError> {
        let mut state = publisher.cluster.state();
        if state.epochs.get(&publisher.id) != Some(&publisher.epoch) {
            return Err(PublishError::Fenced);
        }
        state.transactions += 1;
        state.largest = state.largest.max(records.len());
        if let Some((error, is_written)) = state.failures.pop_front() {
            if is_written {
                state.log.extend_from_slice(records);
            }
            return Err(error);
        }
        let is_refused = |record: &Record| {
            let value = record.value.as_deref().unwrap_or_default();
            state.refused.contains(&*String::from_utf8_lossy(value))
        };
        let refused = records.iter().enumerate().filter(|(_, it)| is_refused(it));
        let refused: Vec<_> = refused
            .map(|(index, _)| (index, "too large".to_owned()))
            .collect();
        match (refused.is_empty(), state.names_the_refused) {
            (true, _) => {
                state.log.extend_from_slice(records);
                Ok(())
            }
            (false, true) => Err(PublishError::Refused(refused)),
            (false, false) => Err(PublishError::RefusedAmong("too large".to_owned())),
        }
    }

    fn serve(_: &mut FakePublisher) {}

    async fn topic(&self, topic: &str) -> Result<(), String> {
        match self.state().missing.contains(topic) {
            true => Err("it does not exist".to_owned()),
            false => Ok(()),
        }
    }
}
