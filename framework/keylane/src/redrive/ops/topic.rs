//! The operations topic of a group: reads it, ends tasks, and resolves letters.

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;

use super::super::connection::{Connection, connection_setters};
use super::super::task_error::RedriveTaskError;
use super::records::{CancelRequest, OpsKey, written};
use super::resolved::{reopened, resolved};
use super::{Handled, OpsState, TaskState};
use crate::Headers;
use crate::kafka::operator::Operator;
use crate::kafka::{OpsEnd, OpsLog, create_ops_topic};
use crate::producer::raw::{OutgoingRecord, PendingLimits, RawProducer};

/// The longest name of who does something, in bytes.
pub(in super::super) const LONGEST_NAME: usize = 255;
/// The longest reason of a request, in bytes.
pub(in super::super) const LONGEST_REASON: usize = 4096;
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
        self.blocking(move || topic.state(None)).await
    }

    pub(in super::super) fn state(
        &self,
        topic: Option<&str>,
    ) -> Result<OpsState, RedriveTaskError> {
        let opened = self.opened(OpsEnd::Stable, topic)?;
        Ok(opened.map_or_else(OpsState::default, |it| it.1))
    }

    /// Requests the end of a task that runs: it ends after the transaction that is open. A task
    /// whose process has ended is cancelled when it is resumed, or when another one begins.
    ///
    /// # Errors
    /// Where there is no such task, or it has ended, or the topic cannot be read or written.
    pub async fn cancel(&self, task: &str, who: &str, why: &str) -> Result<(), RedriveTaskError> {
        check_texts(who, why)?;
        let state = self.read().await?;
        let status = state
            .task(task)
            .ok_or_else(|| RedriveTaskError::NoSuchTask {
                id: task.to_owned(),
                topic: self.name.clone(),
            })?;
        if status.record.state != TaskState::Running {
            return Err(RedriveTaskError::AlreadyEnded {
                id: task.to_owned(),
                state: status.record.state,
            });
        }
        let request = CancelRequest::new(who, why);
        let key = OpsKey::Cancel(task.to_owned());
        self.write(vec![(key, Some(written(&request)))]).await
    }

    /// Marks letters as handled by hand: partitions and offsets, first to last. Letters that are
    /// marked keep what was said about them. The topic is created if it does not exist.
    ///
    /// # Errors
    /// Where the topic cannot be created, read or written, or a text is too long.
    pub async fn resolve(
        &self,
        topic: &str,
        ranges: impl IntoIterator<Item = (i32, RangeInclusive<i64>)>,
        who: &str,
        why: &str,
    ) -> Result<(), RedriveTaskError> {
        check_texts(who, why)?;
        let (this, name) = (self.clone(), topic.to_owned());
        let state = self.blocking(move || {
            this.create()?;
            this.state(Some(&name))
        });
        let ranges = ranges.into_iter().collect();
        let records = resolved(&state.await?, topic, ranges, who, why);
        self.write(records).await
    }

    /// Takes back what was resolved of these letters. Those beside them stay resolved.
    ///
    /// # Errors
    /// Where the topic cannot be read or written, or a text is too long.
    pub async fn unresolve(
        &self,
        topic: &str,
        ranges: impl IntoIterator<Item = (i32, RangeInclusive<i64>)>,
        who: &str,
        why: &str,
    ) -> Result<(), RedriveTaskError> {
        check_texts(who, why)?;
        let state = self.read().await?;
        let ranges = ranges.into_iter().collect();
        self.write(reopened(&state, topic, ranges, who, why)).await
    }

    pub(in super::super) fn check_name(&self) -> Result<(), RedriveTaskError> {
        keylane_core::check_topic_name(&self.name)
            .map_err(|rule| self.unusable(format!("{rule}; name another one")))
    }

    pub(in super::super) fn create(&self) -> Result<(), RedriveTaskError> {
        self.check_name()?;
        let config = self.connection.side_client()?;
        let created = create_ops_topic(&config, &self.name, self.connection.patience);
        created.map_err(|reason| self.unusable(reason))?;
        self.check_policy()
    }

    /// Retention would delete what was done with letters that are still there.
    fn check_policy(&self) -> Result<(), RedriveTaskError> {
        let Connection {
            bootstrap_servers,
            kafka,
            patience,
        } = &self.connection;
        let settings = Operator::connect(bootstrap_servers, kafka, &self.name, *patience)
            .and_then(|operator| operator.topic_settings(&self.name));
        let settings = match settings {
            Ok(settings) => settings,
            Err(error) => {
                tracing::warn!(
                    topic = self.name,
                    %error,
                    "whether the operations topic is compacted is not known"
                );
                return Ok(());
            }
        };
        match settings.get("cleanup.policy").map(String::as_str) {
            Some("compact") | None => Ok(()),
            Some(policy) => Err(self.unusable(format!(
                "it has cleanup.policy={policy}, by which its records are deleted; set it: kafka-configs.sh --alter \
                 --entity-type topics --entity-name {} --add-config cleanup.policy=compact",
                self.name
            ))),
        }
    }

    /// The letters that a new task on this topic leaves out. `log` is what it has read, where that is
    /// known.
    pub(in super::super) fn left_out(
        &self,
        state: &OpsState,
        topic: &str,
        log: Option<&str>,
        again: bool,
    ) -> Result<Handled, RedriveTaskError> {
        if !state.is_log(topic, log) {
            let topic = topic.to_owned();
            return Err(RedriveTaskError::ReCreated { topic });
        }
        if again {
            return Ok(Handled::default());
        }
        let handled = state.known_handled(topic);
        handled.map_err(|reason| RedriveTaskError::HandledUnknown {
            topic: self.name.clone(),
            reason,
        })
    }

    pub(in super::super) fn check_newer(&self, state: &OpsState) -> Result<(), RedriveTaskError> {
        match state.newer().next() {
            None => Ok(()),
            Some(key) => Err(RedriveTaskError::Newer {
                topic: self.name.clone(),
                key: key.to_owned(),
            }),
        }
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

    pub(in super::super) async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> Result<T, RedriveTaskError> + Send + 'static,
    ) -> Result<T, RedriveTaskError> {
        let called = tokio::task::spawn_blocking(call).await;
        called.unwrap_or_else(|error| Err(self.unusable(error.to_string())))
    }
}

fn check_texts(who: &str, why: &str) -> Result<(), RedriveTaskError> {
    for (what, text, most) in [("`who`", who, LONGEST_NAME), ("`why`", why, LONGEST_REASON)] {
        if text.len() > most {
            return Err(RedriveTaskError::Setting {
                reason: format!("{what} has at most {most} bytes"),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_of_a_topic_that_was_re_created_after_they_were_read_are_not_copied() {
        let ops = OpsTopic::of("billing");
        let mut state = OpsState::default();
        let left_out = |state: &OpsState, log| ops.left_out(state, "dead", log, true);
        assert!(left_out(&state, Some("one")).is_ok(), "no broker names it");
        state.set_logs([("dead".to_owned(), "two".to_owned())].into());
        assert!(left_out(&state, Some("two")).is_ok() && left_out(&state, None).is_ok());
        let topic = "dead".to_owned();
        let error = left_out(&state, Some("one")).unwrap_err();
        assert_eq!(error, RedriveTaskError::ReCreated { topic });
    }

    #[tokio::test]
    async fn texts_that_are_too_long_are_refused_before_a_broker_is_asked() {
        let ops = OpsTopic::of("billing").bootstrap_servers("127.0.0.1:1");
        let (who, why) = ("x".repeat(256), "x".repeat(4_097));
        let all = [
            ops.cancel("a", &who, "").await,
            ops.resolve("dead", [(0, 1..=1)], "ada", &why).await,
            ops.unresolve("dead", [(0, 1..=1)], &who, "").await,
        ];
        for refused in all {
            let error = refused.unwrap_err();
            assert!(matches!(error, RedriveTaskError::Setting { .. }), "{error}");
        }
    }
}
