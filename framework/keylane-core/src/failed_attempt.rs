//! A failed attempt: how it failed, with what kind of error, and where.

use crate::failure::Failure;

/// The kind of an error: attempts that fail for one cause should have one class.
///
/// The number is opaque; a hash of the error's type serves. The caller bounds how many there are.
/// The outage guard tracks 64 classes at a time, and the rest share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErrorClass(u64);

impl ErrorClass {
    /// An error of which nothing more is known.
    pub const UNKNOWN: Self = Self(0);
    /// The processor panicked.
    pub const PANIC: Self = Self(1);
    /// The attempt took too long.
    pub const TIMEOUT: Self = Self(2);
    /// The record could not be decoded.
    pub const UNDECODABLE: Self = Self(3);
    /// The record held up its partition.
    pub(crate) const BLOCKER: Self = Self(4);
    /// The classes that are not tracked on their own.
    pub(crate) const REST: Self = Self(5);
    /// Numbers below are the classes above.
    const RESERVED: u64 = 16;

    /// The class with this number. It never equals one of the constants.
    pub const fn new(number: u64) -> Self {
        Self(if number < Self::RESERVED {
            number + Self::RESERVED
        } else {
            number
        })
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Something outside that attempts depend on, by the user's name for it; the caller keeps the
/// names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(u16);

impl Place {
    /// The place with this number.
    pub const fn new(number: u16) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// A failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailedAttempt {
    /// How it failed.
    pub failure: Failure,
    /// The kind of its error.
    pub class: ErrorClass,
    /// The place that was not available, where the error names it.
    pub place: Option<Place>,
}

/// A failure with the class that goes without saying, and no place.
impl From<Failure> for FailedAttempt {
    fn from(failure: Failure) -> Self {
        let class = match failure {
            Failure::Panicked => ErrorClass::PANIC,
            Failure::TimedOut => ErrorClass::TIMEOUT,
            Failure::Undecodable => ErrorClass::UNDECODABLE,
            _ => ErrorClass::UNKNOWN,
        };
        Self {
            failure,
            class,
            place: None,
        }
    }
}
