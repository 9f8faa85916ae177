//! What is read of a record beside key and value, at intake; and what it is without a wrapper.

use std::borrow::Cow;

use super::names;
use super::retry_headers::{last_metadata, read_retry_state, wrote};
use crate::Headers;
use crate::config::{LegacyTasks, SubscriptionConfig};
use crate::record::{Record, RecordHeaders, TaskMetadata, legacy_task};

/// How records are read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Intake {
    legacy_tasks: bool,
}

impl Intake {
    pub(crate) fn of(config: &SubscriptionConfig) -> Self {
        Self {
            legacy_tasks: config.legacy_tasks != LegacyTasks::Off,
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
            .filter(|_| self.legacy_tasks && !headers.as_ref().is_some_and(has_metadata))
            .and_then(legacy_task::unwrap);
        if headers.is_none() && wrapped.is_none() {
            return None;
        }
        let all = headers.unwrap_or_default();
        let (metadata, task) = match wrapped {
            Some((metadata, task)) => (Some(metadata), Some(task)),
            None => (last_metadata(&all), None),
        };
        let retry = is_retry_topic.then(|| read_retry_state(&all, metadata.as_ref()));
        Some(RecordHeaders {
            all,
            metadata,
            task,
            retry,
        })
    }
}

/// As in Decaton, the header alone decides: the value of such a record is never wrapped.
fn has_metadata(headers: &Headers) -> bool {
    headers
        .iter()
        .any(|(name, _)| name == names::DECATON_METADATA)
}

/// The headers of a record as its unwrapped value needs them: with the wrapper's metadata.
///
/// Round and due time of keylane's own retry are left out. They are in its own headers.
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
    }
    let mut headers = headers.clone();
    headers.push(names::DECATON_METADATA, metadata.encode());
    Cow::Owned(headers)
}
