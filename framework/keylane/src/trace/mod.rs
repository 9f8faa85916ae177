//! Spans: one for each attempt, in the trace of the producer that made the record.
//!
//! keylane logs and traces with [`tracing`](https://docs.rs/tracing). It works with any subscriber.
//! With the feature `otel`, spans go to OpenTelemetry too, and carry the trace from the producer to
//! the dead letter.
//!
//! # The span of an attempt
//! The decoder and the processor run in a span `keylane.process`, so that their log lines name the
//! record. It has the level *info* and the target `keylane::process`, and is no child of any other
//! span of the process.
//!
//! | field | |
//! |---|---|
//! | `subscription`, `topic`, `partition`, `offset` | the record, where it was read |
//! | `attempt` | which one it is, from 1, as in [`Task::attempt`](crate::Task::attempt) |
//! | `result` | set at the end: `ok`, `skip`, `error`, `fatal`, `panic`, `timeout`, `undecodable`, as in the metric `keylane_attempts_total`; or `dropped`, where the future was dropped before its time was up: the partition was given up, or the record is a blocker |
//! | `key_hash` | only with [`KeyInSpans::Hashed`](crate::config::KeyInSpans) |
//!
//! **No span has a payload, a key or an error's text.** A processor's own log lines are not
//! filtered, and may quote them.
//!
//! A filter that stops at *warn* leaves these spans out; `info,keylane::process=off` (as
//! `RUST_LOG`, with `tracing-subscriber`'s `EnvFilter`) leaves out them alone.
//!
//! # Trace context
//! Producers of all languages write the headers `traceparent` and `tracestate` of the W3C Trace
//! Context. keylane leaves them as they are. A record on the retry topic and a dead letter carry
//! those of the failed record, bit for bit, so all attempts belong to one trace. A processor reads
//! them by [`Task::trace_parent`](crate::Task::trace_parent) and hands them on with
//! [`NewTask::trace_of`](crate::NewTask::trace_of). A `traceparent` that cannot be read counts as
//! absent: see [`TraceParent`]. A record without one may have the single header `b3` of Zipkin in
//! its place, which is read and never written: see [`TraceParent::read`].
//!
//! # OpenTelemetry
//! With the feature `otel`, and `tracing-opentelemetry`'s layer in the subscriber:
//!
//! * The span of an attempt has the kind *consumer*, the name `process <topic>`, and the span that
//!   made the record as its **parent**, and as a link too. The
//!   [conventions](https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/#message-creation-context-as-parent-of-process-span)
//!   require the link, and allow the parent where a span is for a single message and has no other
//!   span around it, which is the case here. Attempts of one record are siblings. Without a
//!   `traceparent` an attempt begins a trace.
//! * [`TaskProducer`](crate::TaskProducer) makes a span `send <topic>` (target `keylane::send`,
//!   level *info*) of the kind *producer*, a child of the caller's. It lasts from the call to the
//!   broker's answer. Its context goes into the task's headers; where that span is filtered out,
//!   the caller's context does. A task that has a `traceparent` already keeps it, and the span is
//!   linked to that one.
//! * Attributes are those of the messaging conventions (1.42): `messaging.system` (`kafka`),
//!   `messaging.operation.name` and `messaging.operation.type` (`process`, `send`),
//!   `messaging.destination.name`, `messaging.destination.partition.id`, `messaging.kafka.offset`,
//!   `messaging.consumer.group.name`, `messaging.kafka.message.tombstone`. On failure the status is
//!   *error* without a description, and `error.type` is the attempt's `result`, or how the enqueue
//!   failed: `full`, `too_large`, `encode`, `invalid`, `refused`, `not_acknowledged`, `broken`,
//!   `closed`. Left out on purpose: `messaging.kafka.message.key`.
//!
//! The producer of a record decides by its `traceparent` which trace the attempt belongs to. By the
//! *sampled* flag it decides whether a sampler that follows the parent keeps it. Use another
//! sampler where producers are not trusted.
//!
//! The versions have to fit. The program needs the same minor versions of `tracing-opentelemetry`
//! (0.34) and `opentelemetry` (0.33) as keylane, or the spans stay without their parents. keylane
//! uses the API of OpenTelemetry only; the SDK and the exporter are yours:
//!
#![cfg_attr(feature = "otel", doc = "```no_run")]
#![cfg_attr(not(feature = "otel"), doc = "```ignore")]
//! use opentelemetry::trace::TracerProvider as _;
//! use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};
//! use tracing_subscriber::layer::SubscriberExt;
//! use tracing_subscriber::util::SubscriberInitExt;
//!
//! // Rather one of the crate `opentelemetry-otlp`, with `with_batch_exporter`.
//! let exporter = InMemorySpanExporter::default();
//! let provider = SdkTracerProvider::builder().with_simple_exporter(exporter).build();
//! tracing_subscriber::registry()
//!     .with(tracing_subscriber::EnvFilter::from_default_env())
//!     .with(tracing_subscriber::fmt::layer())
//!     .with(tracing_opentelemetry::layer().with_tracer(provider.tracer("parking-notifier")))
//!     .init();
//! // After the shutdown of the subscription, for the last spans:
//! provider.shutdown()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Cost
//! Without a subscriber, an attempt takes some 25 ns longer, without an allocation. With a subscriber
//! that keeps spans, the cost is the subscriber's: about 1 µs an attempt with `tracing-subscriber`'s
//! `fmt` layer, about 3 µs with OpenTelemetry's, the exporter not counted. At many ten thousand
//! records a second that matters: see above for leaving them out.

mod attempt;
#[cfg(feature = "otel")]
mod otel;
mod send;

pub use crate::record::trace_parent::{TraceParent, TraceParentError};
pub(crate) use attempt::AttemptSpans;
pub(crate) use send::SendSpan;
