//! What keylane writes about a failed record: the headers of dead letters and of records on the
//! retry topic. [`Letter`] reads those of a dead letter, also where another program wrote it;
//! [`Filter`] chooses letters, and [`Fingerprint`] groups those that fail alike.
//!
#![doc = include_str!("headers.md")]
//!
//! [`ForeignRetries`]: crate::config::ForeignRetries
//! [`LegacyTasks`]: crate::config::LegacyTasks
//! [`redrive`]: crate::redrive

mod bounded_text;
mod conventions;
mod filter;
mod fingerprint;
mod header_names;
mod headers;
mod id;
mod intake;
mod letter;
mod names;
mod provenance;
mod retry_headers;
mod spring;
mod stored_letter;

pub(crate) use bounded_text::{ErrorText, bounded_text};
pub use filter::{Filter, FilterError};
pub use fingerprint::Fingerprint;
pub(crate) use headers::{
    FailureHistory, Writer, dead_letter_headers, group_as_written, push_origin,
};
pub use id::FailedRecordId;
pub(crate) use intake::{Intake, unwrapped_headers};
pub(crate) use letter::headers_before;
pub use letter::{Letter, WrittenBy};
pub(crate) use names::{EDITED_FROM, REDRIVE_COUNT, REDRIVE_ID};
#[cfg(any(test, fuzzing))]
pub(crate) use provenance::provenance;
pub(crate) use provenance::provenance_of;
#[cfg(test)]
pub(crate) use retry_headers::read_retry_state;
pub(crate) use retry_headers::{Round, last_metadata, retry_headers};
pub use stored_letter::StoredLetter;
