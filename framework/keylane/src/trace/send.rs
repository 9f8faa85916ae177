//! The span of an enqueue. Without the feature `otel` there is none.

use std::sync::Arc;

use crate::{EnqueueError, Enqueued, Headers};

/// From the call to the broker's word. Where the future of the enqueue is dropped, it closes
/// without a result.
pub(crate) struct SendSpan {
    #[cfg(feature = "otel")]
    span: tracing::Span,
}

#[cfg(not(feature = "otel"))]
impl SendSpan {
    pub(crate) fn open(_: &Arc<str>, _: &mut Headers) -> Self {
        Self {}
    }

    pub(crate) fn ended(
        self,
        result: Result<Enqueued, EnqueueError>,
    ) -> Result<Enqueued, EnqueueError> {
        result
    }
}

#[cfg(feature = "otel")]
impl SendSpan {
    /// Opens it as a child of the caller's, and puts the trace into the task's headers.
    pub(crate) fn open(topic: &Arc<str>, headers: &mut Headers) -> Self {
        let span = tracing::info_span!(
            target: "keylane::send", "keylane.send",
            topic = &**topic,
            result = tracing::field::Empty,
            otel.kind = "producer",
            otel.name = %format_args!("send {topic}"),
        );
        if !span.is_disabled() {
            super::otel::describe_send(&span, topic);
        }
        super::otel::inject(&span, headers);
        Self { span }
    }

    pub(crate) fn ended(
        self,
        result: Result<Enqueued, EnqueueError>,
    ) -> Result<Enqueued, EnqueueError> {
        if !self.span.is_disabled() {
            match &result {
                Ok(enqueued) => {
                    self.span.record("result", "ok");
                    super::otel::describe_enqueued(&self.span, enqueued);
                }
                Err(error) => {
                    self.span.record("result", kind(error));
                    super::otel::fail(&self.span, kind(error));
                }
            }
        }
        result
    }
}

#[cfg(feature = "otel")]
fn kind(error: &EnqueueError) -> &'static str {
    match error {
        EnqueueError::Full { .. } => "full",
        EnqueueError::TooLarge { .. } => "too_large",
        EnqueueError::Encode { .. } => "encode",
        EnqueueError::Invalid { .. } => "invalid",
        EnqueueError::Refused { .. } => "refused",
        EnqueueError::NotAcknowledged { .. } => "not_acknowledged",
        EnqueueError::Broken { .. } => "broken",
        EnqueueError::Closed { .. } => "closed",
    }
}
