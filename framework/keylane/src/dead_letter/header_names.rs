//! What each program calls the headers of its dead letters. Written and read by the same table.

use crate::config::HeaderConvention;

/// The header names of one program, without their prefix; empty is a header that it does not have.
pub(super) struct HeaderNames {
    /// What all of them begin with.
    pub(super) prefix: &'static str,
    pub(super) topic: &'static str,
    pub(super) partition: &'static str,
    pub(super) offset: &'static str,
    pub(super) timestamp: &'static str,
    pub(super) group: &'static str,
    pub(super) attempts: &'static str,
    pub(super) reason: &'static str,
    pub(super) class: &'static str,
    pub(super) error: &'static str,
    /// What the names of all its headers begin with, those that are not read included.
    pub(super) own_prefixes: &'static [&'static str],
    /// Its headers, those that are not read included, where they have no prefix of their own.
    pub(super) own_names: &'static [&'static str],
    /// Numbers are Java's `ByteBuffer`, big-endian; else decimal text.
    pub(super) big_endian: bool,
}

const NONE: HeaderNames = HeaderNames {
    prefix: "",
    topic: "",
    partition: "",
    offset: "",
    timestamp: "",
    group: "",
    attempts: "",
    reason: "",
    class: "",
    error: "",
    own_prefixes: &[],
    own_names: &[],
    big_endian: false,
};

pub(super) const KIP_1191: HeaderNames = HeaderNames {
    prefix: "__dlq.errors.",
    topic: "topic",
    partition: "partition",
    offset: "offset",
    group: "group",
    attempts: "delivery.count",
    error: "message",
    own_prefixes: &["__dlq.errors."],
    ..NONE
};

/// Of a `DeadLetterPublishingRecoverer`.
pub(super) const SPRING: HeaderNames = HeaderNames {
    prefix: "kafka_dlt-",
    topic: "original-topic",
    partition: "original-partition",
    offset: "original-offset",
    timestamp: "original-timestamp",
    group: "original-consumer-group",
    class: "exception-fqcn",
    error: "exception-message",
    own_prefixes: &["kafka_dlt-", "kafka_original-", "kafka_exception-"],
    big_endian: true,
    ..NONE
};

/// Of `@RetryableTopic`.
pub(super) const SPRING_RETRYABLE: HeaderNames = HeaderNames {
    prefix: "kafka_",
    group: "dlt-original-consumer-group",
    ..SPRING
};

pub(super) const CONNECT: HeaderNames = HeaderNames {
    prefix: "__connect.errors.",
    topic: "topic",
    partition: "partition",
    offset: "offset",
    reason: "stage",
    class: "exception.class.name",
    error: "exception.message",
    own_prefixes: &["__connect.errors."],
    ..NONE
};

pub(super) const SMALLRYE: HeaderNames = HeaderNames {
    prefix: "dead-letter-",
    topic: "topic",
    partition: "partition",
    offset: "offset",
    class: "exception-class-name",
    error: "reason",
    own_prefixes: &["dead-letter-"],
    ..NONE
};

pub(super) const KARAFKA: HeaderNames = HeaderNames {
    prefix: "source_",
    topic: "topic",
    partition: "partition",
    offset: "offset",
    group: "consumer_group",
    attempts: "attempts",
    // Not all that begins with `source_`: a record may have such headers of its own.
    own_names: &[
        "source_topic",
        "source_partition",
        "source_offset",
        "source_consumer_group",
        "source_attempts",
        "source_trace_id",
    ],
    ..NONE
};

/// Those that keylane writes for a convention.
pub(super) fn names_of(convention: HeaderConvention) -> &'static HeaderNames {
    match convention {
        HeaderConvention::Kip1191 => &KIP_1191,
        HeaderConvention::Spring => &SPRING,
        HeaderConvention::Connect => &CONNECT,
    }
}
