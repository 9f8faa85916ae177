//! What keylane writes about a failed record: the headers of dead letters and of records on the
//! retry topic.
//!
#![doc = include_str!("headers.md")]
//!
//! [`ForeignRetries`]: crate::ForeignRetries

mod bounded_text;
mod headers;
mod id;
mod names;
mod provenance;
mod retry_headers;

pub(crate) use bounded_text::bounded_text;
pub(crate) use headers::{
    FailureHistory, MAX_ERROR_BYTES, NAME_LIMIT_BYTES, Writer, dead_letter_headers,
    group_as_written,
};
pub use id::FailedRecordId;
pub(crate) use provenance::provenance;
pub(crate) use retry_headers::{RetryState, Round, read_retry_state, retry_headers};
