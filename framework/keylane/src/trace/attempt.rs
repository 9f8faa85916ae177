//! The span of an attempt.

use std::sync::Arc;
use std::time::Instant;

use tracing::Span;
use tracing::field::Empty;
use tracing::level_filters::LevelFilter;
use tracing::span::Entered;

use crate::SubscriptionConfig;
use crate::config::KeyInSpans;
use crate::metrics::{AttemptResult, LabelValue};
use crate::processing::Source;
use crate::record::{KeyHash, Record};

/// Opens the spans of one subscription's attempts.
pub(crate) struct AttemptSpans {
    subscription: Arc<str>,
    #[cfg(feature = "otel")]
    group: Arc<str>,
    key: KeyInSpans,
}

/// The span of one attempt. It closes with the attempt, however that ends.
pub(crate) struct AttemptSpan {
    span: Span,
    /// When the attempt's time is up.
    ends: Instant,
    /// `None` until the attempt has ended, and where it was dropped before.
    result: Option<AttemptResult>,
}

/// `$more` are the further fields of a span: the macro needs all fields by name.
macro_rules! attempt_span {
    ($spans:expr, $source:expr, $record:expr, $attempt:expr $(, $($more:tt)*)?) => {
        tracing::info_span!(
            target: "keylane::process",
            // Not a child of whatever the runtime's thread is in.
            parent: None,
            "keylane.process",
            subscription = &*$spans.subscription,
            topic = &*$source.topic,
            partition = $source.partition,
            offset = $record.offset(),
            attempt = $attempt,
            key_hash = Empty,
            result = Empty,
            $($($more)*)?
        )
    };
}

impl AttemptSpans {
    pub(crate) fn new(config: &SubscriptionConfig) -> Self {
        Self {
            subscription: config.label().into(),
            #[cfg(feature = "otel")]
            group: config.group.as_str().into(),
            key: config.tracing.key,
        }
    }

    /// `None` where no subscriber listens. This is on the path of every record: without a
    /// subscriber it costs a comparison, and the attempt carries a null pointer. Measured: with
    /// macro and span in line it takes a third longer.
    #[inline]
    pub(crate) fn open(
        &self,
        source: &Source,
        record: &Record,
        attempt: u32,
        ends: Instant,
    ) -> Option<Box<AttemptSpan>> {
        if LevelFilter::current() < LevelFilter::INFO {
            return None;
        }
        self.open_for_listeners(source, record, attempt, ends)
    }

    #[cold]
    #[inline(never)]
    fn open_for_listeners(
        &self,
        source: &Source,
        record: &Record,
        attempt: u32,
        ends: Instant,
    ) -> Option<Box<AttemptSpan>> {
        #[cfg(not(feature = "otel"))]
        let span = attempt_span!(self, source, record, attempt);
        #[cfg(feature = "otel")]
        let span = attempt_span!(
            self, source, record, attempt,
            otel.kind = "consumer", otel.name = %format_args!("process {}", source.topic)
        );
        if span.is_disabled() {
            return None;
        }
        self.describe(&span, source, record);
        Some(Box::new(AttemptSpan {
            span,
            ends,
            result: None,
        }))
    }

    fn describe(&self, span: &Span, source: &Source, record: &Record) {
        if let (KeyInSpans::Hashed, Some(key)) = (self.key, record.key()) {
            span.record("key_hash", tracing::field::display(KeyHash::of(key)));
        }
        #[cfg(feature = "otel")]
        super::otel::describe_attempt(span, &self.group, source, record);
        #[cfg(not(feature = "otel"))]
        let _ = source;
    }
}

impl AttemptSpan {
    /// What this thread does until it is dropped is within the span.
    pub(crate) fn enter(&self) -> Entered<'_> {
        self.span.enter()
    }

    pub(crate) fn ended(&mut self, result: AttemptResult) {
        self.result = Some(result);
    }
}

impl Drop for AttemptSpan {
    /// What has no result was dropped: when its time was up, with its epoch, or because it held up
    /// its partition.
    fn drop(&mut self) {
        let is_late = || Instant::now() >= self.ends;
        let result = match self.result {
            Some(result) => result.as_str(),
            None if is_late() => AttemptResult::Timeout.as_str(),
            None => "dropped",
        };
        self.span.record("result", result);
        #[cfg(feature = "otel")]
        if !matches!(self.result, Some(AttemptResult::Ok | AttemptResult::Skip)) {
            super::otel::fail(&self.span, result);
        }
    }
}
