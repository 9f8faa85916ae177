//! What is read of a record beside key and value, at intake; and what it is without a wrapper.

use std::borrow::Cow;

use super::names;
use super::retry_headers::{last_metadata, made_at, read_retry_state, wrote};
use super::spring::spring_retry;
use crate::Headers;
use crate::config::{LegacyTasks, SpringHeaders, SubscriptionConfig};
use crate::record::{Record, RecordHeaders, TaskMetadata, legacy_task};

/// How records are read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Intake {
    legacy_tasks: bool,
    spring_headers: bool,
}

impl Intake {
    pub(crate) fn of(config: &SubscriptionConfig) -> Self {
        Self {
            legacy_tasks: config.legacy_tasks != LegacyTasks::Off,
            spring_headers: (config.retry.topic.as_ref())
                .is_some_and(|topic| topic.spring_headers == SpringHeaders::Read),
        }
    }

    /// Reads headers, and the value where it may be Decaton's wrapper. `None` where neither says
    /// anything.
    pub(crate) fn read(
        self,
        headers: Option<Headers>,
        value: Option<&[u8]>,
        is_retry_topic: bool,
    ) -> Option<RecordHeaders> {
        let wrapped = value
            .filter(|_| self.legacy_tasks && !has_metadata(headers.as_ref()))
            .and_then(legacy_task::unwrap);
        if headers.is_none() && wrapped.is_none() {
            return None;
        }
        let all = headers.unwrap_or_default();
        let (metadata, task) = match wrapped {
            Some((metadata, task)) => (Some(metadata), Some(task)),
            None => (last_metadata(&all), None),
        };
        let retry = is_retry_topic.then(|| {
            let spring = self.spring_headers.then(|| spring_retry(&all)).flatten();
            read_retry_state(&all, metadata.as_ref(), spring)
        });
        Some(RecordHeaders {
            all,
            metadata,
            task,
            retry,
        })
    }
}

/// As in Decaton, the header alone decides: the value of such a record is never wrapped.
fn has_metadata(headers: Option<&Headers>) -> bool {
    headers.is_some_and(|headers| headers.contains(names::DECATON_METADATA))
}

/// The headers of a record as its unwrapped value needs them: with the wrapper's metadata.
///
/// Round and due time of keylane's own retry are left out: they are in its own headers. So is
/// metadata that has nothing else, because the record came without any.
pub(crate) fn unwrapped_headers(record: &Record) -> Cow<'_, Headers> {
    let headers = record.headers();
    let Some(metadata) = record.metadata().filter(|_| record.is_unwrapped()) else {
        return Cow::Borrowed(headers);
    };
    let mut metadata = metadata.clone();
    if wrote(headers, &metadata) {
        metadata = TaskMetadata {
            retry_count: 0,
            scheduled_time_millis: 0,
            ..metadata
        };
        if metadata == made_at(record.origin_timestamp_millis()) {
            return Cow::Borrowed(headers);
        }
    }
    let mut headers = headers.clone();
    headers.push(names::DECATON_METADATA, metadata.encode());
    Cow::Owned(headers)
}

#[cfg(test)]
mod tests {
    use super::super::headers::tests::{by, parking_failure};
    use super::super::{Round, retry_headers};
    use super::*;
    use crate::Retry;
    use crate::record::{RetryState, TASK_METADATA, legacy_task};

    fn intake(legacy_tasks: LegacyTasks, spring_headers: SpringHeaders) -> Intake {
        let mut config = SubscriptionConfig::new("group", "tasks");
        config.legacy_tasks = legacy_tasks;
        config.retry = Retry::default().then_topic().spring_headers(spring_headers);
        Intake::of(&config)
    }

    #[test]
    fn springs_retry_of_what_keylane_retried_counts_where_it_is_asked_for() {
        let (origin, history) = parking_failure();
        let round = Round {
            number: 2,
            due_millis: 1_000,
            retried_for: std::time::Duration::ZERO,
        };
        let none = Headers::new();
        let mut headers = retry_headers(&none, &origin, None, by("g"), &history, round, None);
        // As Spring does: it keeps all headers, and adds its own.
        headers.push("retry_topic-attempts", &[0, 0, 0, 2][..]);
        headers.push("retry_topic-backoff-timestamp", &[0x05, 0xdc][..]);
        let read = |spring_headers| -> RetryState {
            let intake = intake(LegacyTasks::Off, spring_headers);
            let read = intake.read(Some(headers.clone()), None, true);
            read.and_then(|read| read.retry).unwrap()
        };
        let (read, ignored) = (read(SpringHeaders::Read), read(SpringHeaders::Ignore));
        assert_eq!(
            (read.round, read.attempts, read.due_millis, read.requeued),
            (3, history.attempts + 1, Some(1_500), true)
        );
        let own = RetryState {
            round: 2,
            attempts: history.attempts,
            due_millis: Some(1_000),
            requeued: false,
            ..read
        };
        assert_eq!(ignored, own);
    }

    #[test]
    fn only_a_value_without_metadata_in_a_header_is_unwrapped_and_only_where_it_is_asked_for() {
        let mut headers: Headers = [("own", "1")].into_iter().collect();
        headers.push(TASK_METADATA, &[0x20, 3, 0x28, 77][..]);
        let with_metadata = headers.clone();
        let wrapped = legacy_task::wrap(&mut headers, b"task");
        let read = |legacy_tasks, headers: Option<&Headers>, value: Option<&[u8]>| {
            intake(legacy_tasks, SpringHeaders::Ignore).read(headers.cloned(), value, true)
        };
        for legacy_tasks in [LegacyTasks::Read, LegacyTasks::Write] {
            let unwrapped = read(legacy_tasks, None, Some(&wrapped)).unwrap();
            assert_eq!(&wrapped[unwrapped.task.unwrap()], b"task");
            let retry = unwrapped.retry.unwrap();
            assert_eq!((retry.round, retry.due_millis), (3, Some(77)));

            let mut damaged = Headers::new();
            damaged.push_null(TASK_METADATA);
            for with_header in [&with_metadata, &damaged] {
                let bare = read(legacy_tasks, Some(with_header), Some(&wrapped)).unwrap();
                assert_eq!(bare.task, None);
            }
            for value in [None, Some(&b""[..]), Some(b"{}")] {
                assert!(read(legacy_tasks, None, value).is_none());
            }
        }
        assert!(read(LegacyTasks::Off, None, Some(&wrapped)).is_none());
    }
}
