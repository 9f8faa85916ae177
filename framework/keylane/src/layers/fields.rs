//! What names a task, on the log lines of its work.

use std::borrow::Cow;
use std::future::Future;

use tracing::field::{Empty, display};
use tracing::{Instrument, Span};

use super::{Layer, Next};
use crate::record::KeyHash;
use crate::support::error_text;
use crate::{Success, Task, TaskError};

/// A header's value is cut after this many bytes.
const MAX_HEADER_BYTES: usize = 128;

/// Runs what is inside in a span `keylane.task`, so that its log lines name the task by what stays
/// the same through retries.
///
/// The [span of the attempt](crate::trace) is around it, and has topic, partition, offset and
/// attempt, as the record was read. This one adds
///
/// | field | |
/// |---|---|
/// | `message_id` | [`Task::message_id`], where there is one |
/// | `origin` | where the record was read first, as `topic-partition@offset` |
/// | `key_hash` | [`KeyHash`] of the key, where there is one; never the key itself |
/// | `headers` | those that [`header`](Self::header) names, as `name=value`, each cut after 128 bytes |
///
/// It has the level *info* and the target `keylane::task`: the filter `info,keylane::task=off`
/// leaves it out. Where nothing listens it costs some nanoseconds.
///
/// # Examples
/// ```
/// use keylane::Subscription;
/// use keylane::layers::Fields;
///
/// let builder = Subscription::builder("parking-notifier", "parking-events")
///     .layer(Fields::default().header("tenant"));
/// # let _ = builder;
/// ```
#[derive(Clone, Debug, Default)]
pub struct Fields {
    headers: Vec<Cow<'static, str>>,
}

impl Fields {
    /// Adds a header to the field `headers`. Name none that is secret: logs show it.
    #[must_use]
    pub fn header(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push(name.into());
        self
    }

    fn span<T>(&self, task: &Task<T>) -> Span {
        let span = tracing::info_span!(
            target: "keylane::task", "keylane.task",
            message_id = Empty, origin = Empty, key_hash = Empty, headers = Empty,
        );
        if span.is_disabled() {
            return span;
        }
        if let Some(id) = task.message_id() {
            span.record("message_id", id);
        }
        let origin = task.origin();
        let origin = format_args!("{}-{}@{}", origin.topic, origin.partition, origin.offset);
        span.record("origin", display(origin));
        if let Some(key) = task.key() {
            span.record("key_hash", display(KeyHash::of(key)));
        }
        if let Some(headers) = self.headers_of(task) {
            span.record("headers", headers);
        }
        span
    }

    fn headers_of<T>(&self, task: &Task<T>) -> Option<String> {
        let shown = self.headers.iter().filter_map(|name| {
            let value = task.headers().last(name)?;
            let value = &value[..value.len().min(MAX_HEADER_BYTES)];
            Some(format!("{name}={}", String::from_utf8_lossy(value)))
        });
        let shown = shown.collect::<Vec<_>>().join(" ");
        (!shown.is_empty()).then(|| error_text::text(shown))
    }
}

impl<T: Send + 'static> Layer<T> for Fields {
    fn around(
        &self,
        task: Task<T>,
        next: impl Next<T>,
    ) -> impl Future<Output = Result<Success, TaskError>> + Send {
        let span = self.span(&task);
        // A processor may work before its future is polled.
        let inner = span.in_scope(|| next.run(task));
        inner.instrument(span)
    }
}
