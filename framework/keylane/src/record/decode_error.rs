//! Why a value has no payload.

use std::error::Error;

use crate::support::error_text;

/// A value that could not be decoded. Its text has the reason with its causes, cut where it is
/// longer than 4 KiB.
///
/// # Examples
/// ```
/// let error = keylane::error::DecodeError::new("a tombstone has no text");
/// assert_eq!(error.to_string(), "cannot decode the value: a tombstone has no text");
/// ```
#[derive(Debug, thiserror::Error)]
#[error("cannot decode the value: {}", error_text::chain(&**.0))]
pub struct DecodeError(Box<dyn Error + Send + Sync>);

impl DecodeError {
    /// Wraps the reason.
    pub fn new(reason: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(reason.into())
    }
}
