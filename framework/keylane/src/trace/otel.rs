//! Between spans, OpenTelemetry's contexts and the headers of records.
//!
//! OpenTelemetry's propagator for `traceparent` is part of its SDK, which the application chooses;
//! a library uses the API alone. So [`TraceParent`] reads and writes the header. It is also the
//! stricter reader.

use std::sync::Arc;

use opentelemetry::Context;
use opentelemetry::trace::{
    SpanContext, SpanId, Status, TraceContextExt, TraceFlags, TraceId, TraceState,
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::Headers;
use crate::processing::Source;
use crate::record::{Record, TRACE_PARENT, TRACE_STATE, TraceParent, trace_state};

/// A longer one is not read: the specification requires 512 at least.
const MAX_TRACE_STATE_BYTES: usize = 4096;

/// Sets the parent of an attempt's span, and the attributes of the conventions. This comes before
/// the span is entered: its parent cannot be changed afterwards, and samplers read what is set by
/// then.
pub(super) fn describe_attempt(span: &Span, group: &Arc<str>, source: &Source, record: &Record) {
    if let Some(creation) = creation_context(record.headers()) {
        span.add_link(creation.clone());
        // It fails where no layer of OpenTelemetry listens.
        let _ = span.set_parent(Context::new().with_remote_span_context(creation));
    }
    describe(span, "process", &source.topic);
    span.set_attribute("messaging.consumer.group.name", group.clone());
    place(span, source.partition, record.offset());
    if record.value().is_none() {
        span.set_attribute("messaging.kafka.message.tombstone", true);
    }
}

/// The same for the span of an enqueue.
pub(super) fn describe_send(span: &Span, topic: &Arc<str>) {
    describe(span, "send", topic);
}

fn describe(span: &Span, operation: &'static str, topic: &Arc<str>) {
    span.set_attribute("messaging.system", "kafka");
    span.set_attribute("messaging.operation.name", operation);
    span.set_attribute("messaging.operation.type", operation);
    span.set_attribute("messaging.destination.name", topic.clone());
}

pub(super) fn place(span: &Span, partition: i32, offset: i64) {
    span.set_attribute("messaging.destination.partition.id", partition.to_string());
    span.set_attribute("messaging.kafka.offset", offset);
}

/// The error's text stays out of it: it is the user's, and may quote the payload.
pub(super) fn fail(span: &Span, error_type: &'static str) {
    span.set_attribute("error.type", error_type);
    span.set_status(Status::error(""));
}

/// Puts the trace into a task's headers: `span`'s, or the caller's where that is not kept. One that
/// the user has put there stays, and `span` is linked to it.
pub(super) fn inject(span: &Span, headers: &mut Headers) {
    if headers.last(TRACE_PARENT).is_some() {
        if let Some(creation) = creation_context(headers) {
            span.add_link(creation);
        }
        return;
    }
    let Some(context) = current_context(span) else {
        return;
    };
    let (trace_id, span_id) = (context.trace_id().to_bytes(), context.span_id().to_bytes());
    let Some(parent) = TraceParent::new(trace_id, span_id, context.trace_flags().to_u8()) else {
        return;
    };
    headers.push(TRACE_PARENT, parent.to_string());
    let state = context.trace_state().header();
    if !state.is_empty() {
        headers.push(TRACE_STATE, state);
    }
}

/// Of the span, else of the span or the OpenTelemetry context that the caller is in.
fn current_context(span: &Span) -> Option<SpanContext> {
    let valid = |context: Context| {
        Some(context.span().span_context().clone()).filter(SpanContext::is_valid)
    };
    valid(span.context())
        .or_else(|| valid(Span::current().context()))
        .or_else(|| valid(Context::current()))
}

/// The context of the span that made the record, from its headers.
fn creation_context(headers: &Headers) -> Option<SpanContext> {
    let parent = TraceParent::read(headers)?;
    let state = trace_state(headers)
        .filter(|bytes| bytes.len() <= MAX_TRACE_STATE_BYTES)
        .and_then(|bytes| std::str::from_utf8(bytes).ok());
    // Its parent is valid even if this one cannot be read.
    let state = state
        .and_then(|text| text.parse::<TraceState>().ok())
        .unwrap_or_default();
    Some(SpanContext::new(
        TraceId::from_bytes(parent.trace_id()),
        SpanId::from_bytes(parent.parent_id()),
        TraceFlags::new(parent.flags()),
        true,
        state,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(state: &str) -> Headers {
        [
            (TRACE_PARENT, PARENT.to_owned()),
            (TRACE_STATE, state.to_owned()),
        ]
        .into_iter()
        .collect()
    }

    #[test]
    fn a_trace_state_that_cannot_be_read_or_is_too_long_says_nothing_against_its_parent() {
        let long = format!("a={}", "x".repeat(MAX_TRACE_STATE_BYTES));
        for (state, read) in [
            ("a=1,b=2", "a=1,b=2"),
            ("nonsense", ""),
            (&*long, ""),
            ("", ""),
        ] {
            let context = creation_context(&headers(state)).unwrap();
            assert_eq!(
                context.trace_id().to_string(),
                "4bf92f3577b34da6a3ce929d0e0e4736"
            );
            assert!(context.is_remote() && context.is_sampled());
            assert_eq!(context.trace_state().header(), read);
        }
    }

    #[test]
    fn without_a_parent_a_trace_state_means_nothing() {
        let headers = [(TRACE_PARENT, "damaged"), (TRACE_STATE, "a=1")]
            .into_iter()
            .collect();
        assert_eq!(creation_context(&headers), None);
    }

    #[test]
    fn a_record_with_b3_alone_has_a_parent_too() {
        let headers = [("b3", "a3ce929d0e0e4736-00f067aa0ba902b7-1")]
            .into_iter()
            .collect();
        let context = creation_context(&headers).unwrap();
        assert_eq!(
            context.trace_id().to_string(),
            "0000000000000000a3ce929d0e0e4736"
        );
        assert!(context.is_sampled());
    }

    #[test]
    fn a_task_takes_the_callers_context_with_it_unless_it_has_one() {
        let context = creation_context(&headers("a=1")).unwrap();
        let _current = Context::new().with_remote_span_context(context).attach();
        let mut task = Headers::new();
        inject(&Span::none(), &mut task);
        assert_eq!(task, headers("a=1"));

        let mut own: Headers = [(TRACE_PARENT, "whatever it is")].into_iter().collect();
        inject(&Span::none(), &mut own);
        assert_eq!(
            (own.len(), own.last_str(TRACE_PARENT)),
            (1, Some("whatever it is"))
        );
    }

    #[test]
    fn outside_of_a_trace_a_task_carries_none() {
        let mut task = Headers::new();
        inject(&Span::none(), &mut task);
        assert!(task.is_empty());
    }
}
