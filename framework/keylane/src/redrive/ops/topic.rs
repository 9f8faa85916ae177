//! The operations topic of a group, for those who look, end tasks, and resolve letters.

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;

use super::super::connection::{Connection, connection_setters};
use super::super::task_error::RedriveTaskError;
use super::records::{CancelRequest, OpsKey, Place, Resolution, written};
use super::{OpsState, TaskState};
use crate::Headers;
use crate::kafka::{OpsEnd, OpsLog, create_ops_topic};
use crate::producer::raw::{OutgoingRecord, PendingLimits, RawProducer};

/// Records that are on their way.
const AT_ONCE: usize = 500;

/// The operations topic of a group.
///
/// # Examples
/// ```no_run
/// use keylane::redrive::ops::OpsTopic;
///
/// # async fn look() -> Result<(), Box<dyn std::error::Error>> {
/// let topic = OpsTopic::of("parking-notifier").bootstrap_servers("localhost:9092");
/// for task in topic.read().await?.tasks() {
///     println!("{} by {}: {:?}", task.id, task.record.who, task.record.state);
/// }
/// topic.resolve("parking-events-dlq", [(0, 17..=17)], "ada", "refunded by hand").await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is read or written until a method is called"]
pub struct OpsTopic {
    pub(in super::super) connection: Connection,
    name: String,
}

impl OpsTopic {
    /// That of this group.
    pub fn of(group: &str) -> Self {
        Self {
            connection: Connection::default(),
            name: format!("{group}-keylane-ops"),
        }
    }

    connection_setters!();

    /// Its name: `<group>-keylane-ops`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Another name, for a group whose name no topic can have.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// All that it says now; nothing where it does not exist. What a transaction that is open has
    /// written is not among it.
    ///
    /// # Errors
    /// Where it cannot be read.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn read(&self) -> Result<OpsState, RedriveTaskError> {
        let topic = self.clone();
        self.blocking(move || {
            let opened = topic.opened(OpsEnd::Stable, None)?;
            Ok(opened.map_or_else(OpsState::default, |it| it.1))
        })
        .await
    }

    /// Requests the end of a task that runs: it ends after the transaction that is open. A task
    /// whose process has ended is cancelled when it is resumed.
    ///
    /// # Errors
    /// Where there is no such task, or it has ended, or the topic cannot be read or written.
    pub async fn cancel(&self, task: &str, who: &str, why: &str) -> Result<(), RedriveTaskError> {
        let state = self.read().await?;
        let status = state
            .task(task)
            .ok_or_else(|| RedriveTaskError::NoSuchTask {
                id: task.to_owned(),
                topic: self.name.clone(),
            })?;
        if status.record.state != TaskState::Running {
            return Err(RedriveTaskError::Ended {
                id: task.to_owned(),
                state: status.record.state,
            });
        }
        let request = CancelRequest::new(who, why);
        let key = OpsKey::Cancel(task.to_owned());
        self.write(vec![(key, Some(written(&request)))]).await
    }

    /// Marks letters as handled by hand: partitions and offsets, first to last. The topic is created
    /// if it does not exist.
    ///
    /// # Errors
    /// Where the topic cannot be created or written.
    pub async fn resolve(
        &self,
        topic: &str,
        ranges: impl IntoIterator<Item = (i32, RangeInclusive<i64>)>,
        who: &str,
        why: &str,
    ) -> Result<(), RedriveTaskError> {
        let (this, name) = (self.clone(), topic.to_owned());
        let log = self.blocking(move || {
            this.create()?;
            Ok(this
                .log()?
                .and_then(|log| log.log_ids(&[&name]).remove(&name)))
        });
        let log = log.await?;
        let record = |(partition, range): (i32, RangeInclusive<i64>)| {
            let resolution = Resolution::new(*range.end(), log.clone(), who, why);
            (
                place(topic, partition, *range.start()),
                Some(written(&resolution)),
            )
        };
        self.write(ranges.into_iter().map(record).collect()).await
    }

    /// Takes back what was resolved of these letters. Those beside them stay resolved.
    ///
    /// # Errors
    /// Where the topic cannot be read or written.
    pub async fn unresolve(
        &self,
        topic: &str,
        ranges: impl IntoIterator<Item = (i32, RangeInclusive<i64>)>,
    ) -> Result<(), RedriveTaskError> {
        let state = self.read().await?;
        let mut records = Vec::new();
        let holes: Vec<_> = ranges.into_iter().collect();
        for (partition, range, resolution) in state.resolved(topic) {
            let of_partition = holes.iter().filter(|(it, _)| *it == partition);
            let parts = without(range.clone(), of_partition.map(|(_, hole)| hole));
            if parts == [range.clone()] {
                continue;
            }
            if parts
                .first()
                .is_none_or(|part| part.start() != range.start())
            {
                records.push((place(topic, partition, *range.start()), None));
            }
            records.extend(parts.into_iter().map(|part| {
                let mut kept = resolution.clone();
                kept.last = *part.end();
                (place(topic, partition, *part.start()), Some(written(&kept)))
            }));
        }
        self.write(records).await
    }

    pub(in super::super) fn create(&self) -> Result<(), RedriveTaskError> {
        if let Err(rule) = keylane_core::check_topic_name(&self.name) {
            return Err(self.unusable(format!("{rule}; name another one")));
        }
        let config = self.connection.side_client()?;
        let created = create_ops_topic(&config, &self.name, self.connection.patience);
        created.map_err(|reason| self.unusable(reason))
    }

    fn log(&self) -> Result<Option<OpsLog>, RedriveTaskError> {
        let config = self.connection.reader()?;
        let log = OpsLog::open(&config, &self.name, self.connection.patience);
        log.map_err(|reason| self.unusable(reason))
    }

    /// Its log, read to this end, and what it says; also which log this topic has.
    pub(in super::super) fn opened(
        &self,
        end: OpsEnd,
        topic: Option<&str>,
    ) -> Result<Option<(OpsLog, OpsState)>, RedriveTaskError> {
        let Some(mut log) = self.log()? else {
            return Ok(None);
        };
        let mut state = OpsState::default();
        log.read_all(end, |record| {
            state.apply(record.key(), record.value_as_read())
        })
        .map_err(|reason| self.unusable(reason))?;
        let mut topics = state.topics();
        topics.extend(topic);
        let logs = log.log_ids(&topics.into_iter().collect::<Vec<_>>());
        state.set_logs(logs);
        Ok(Some((log, state)))
    }

    pub(in super::super) fn record(&self, key: &OpsKey, value: Option<Vec<u8>>) -> OutgoingRecord {
        OutgoingRecord {
            topic: Arc::from(&*self.name),
            partition: Some(0),
            key: Some(Bytes::from(key.text())),
            value: value.map(Bytes::from),
            headers: Headers::new(),
            timestamp_millis: None,
        }
    }

    pub(in super::super) fn unusable(&self, reason: String) -> RedriveTaskError {
        RedriveTaskError::OpsTopic {
            topic: self.name.clone(),
            reason,
        }
    }

    async fn write(&self, records: Vec<(OpsKey, Option<Vec<u8>>)>) -> Result<(), RedriveTaskError> {
        let connection = &self.connection;
        let limits = PendingLimits {
            records: AT_ONCE,
            bytes: 16 << 20,
        };
        let producer = RawProducer::start(
            connection.servers(),
            connection.settings(),
            limits,
            Arc::new(|_| {}),
        )?;
        let mut records = records.into_iter().peekable();
        while records.peek().is_some() {
            let some = records.by_ref().take(AT_ONCE);
            let sent: Vec<_> = some
                .map(|(key, value)| producer.send(self.record(&key, value)))
                .collect();
            for answer in sent {
                let answer = answer.await;
                answer.map_err(|error| self.unusable(error.to_string()))?;
            }
        }
        // Nothing is pending.
        let _ = producer.close(connection.patience).await;
        Ok(())
    }

    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> Result<T, RedriveTaskError> + Send + 'static,
    ) -> Result<T, RedriveTaskError> {
        let called = tokio::task::spawn_blocking(call).await;
        called.unwrap_or_else(|error| Err(self.unusable(error.to_string())))
    }
}

fn place(topic: &str, partition: i32, first: i64) -> OpsKey {
    OpsKey::Resolved(Place {
        topic: topic.to_owned(),
        partition,
        first,
    })
}

/// What of a range is in none of these.
fn without<'a>(
    range: RangeInclusive<i64>,
    holes: impl IntoIterator<Item = &'a RangeInclusive<i64>>,
) -> Vec<RangeInclusive<i64>> {
    let mut parts = vec![range];
    for hole in holes {
        let cut = |part: RangeInclusive<i64>| {
            let before = *part.start()..=(*part.end()).min(hole.start().saturating_sub(1));
            let after = (*part.start()).max(hole.end().saturating_add(1))..=*part.end();
            [before, after].into_iter().filter(|it| !it.is_empty())
        };
        parts = match hole.is_empty() {
            true => parts,
            false => parts.into_iter().flat_map(cut).collect(),
        };
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_back_is_cut_out_and_the_rest_stays() {
        assert_eq!(without(5..=9, []), [5..=9]);
        assert_eq!(without(5..=9, [&(7..=7)]), [5..=6, 8..=9]);
        assert_eq!(without(5..=9, [&(1..=5), &(9..=20)]), [6..=8]);
        assert_eq!(without(5..=9, [&(0..=9)]), []);
        assert_eq!(without(5..=9, [&(6..=6), &(8..=8)]), [5..=5, 7..=7, 9..=9]);
        assert_eq!(without(5..=9, [&(10..=20)]), [5..=9]);
    }
}
