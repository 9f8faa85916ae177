//! The span of an enqueue. Without the feature `otel` there is none.

use std::sync::Arc;

use crate::Headers;

/// Lasts from the call to the broker's answer. Where the future of the enqueue is dropped, it
/// closes without a result.
pub(crate) struct SendSpan {
    #[cfg(feature = "otel")]
    span: tracing::Span,
}

#[cfg(not(feature = "otel"))]
impl SendSpan {
    pub(crate) fn open(_: &Arc<str>, _: &mut Headers) -> Self {
        Self {}
    }

    pub(crate) fn ended(self, _: Result<(i32, i64), &'static str>) {}
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

    /// With the partition and the offset that the broker gave it, or the kind of the error.
    pub(crate) fn ended(self, result: Result<(i32, i64), &'static str>) {
        if self.span.is_disabled() {
            return;
        }
        match result {
            Ok((partition, offset)) => {
                self.span.record("result", "ok");
                super::otel::place(&self.span, partition, offset);
            }
            Err(kind) => {
                self.span.record("result", kind);
                super::otel::fail(&self.span, kind);
            }
        }
    }
}
