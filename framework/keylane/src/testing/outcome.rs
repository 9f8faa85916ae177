//! What became of a task.

/// What became of a task. `attempts` counts over all rounds of the retry topic.
///
/// The variants get no further fields, so that a test can compare with `==`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The processor has done it.
    Done {
        /// How often it was attempted.
        attempts: u32,
    },
    /// The processor has skipped it.
    Skipped {
        /// How often it was attempted.
        attempts: u32,
    },
    /// The dead-letter topic has it.
    DeadLettered {
        /// How often it was attempted.
        attempts: u32,
    },
    /// It is parked: unsettled for good, with its key behind it.
    Parked {
        /// How often it was attempted.
        attempts: u32,
    },
    /// It was out of retries, and ended the subscription
    /// ([`Exhausted::Stop`](crate::config::Exhausted::Stop)).
    Stopped {
        /// How often it was attempted.
        attempts: u32,
    },
    /// It is not settled yet: it waits for its next attempt, is held because of an outage, or was
    /// left over by a stop.
    Pending {
        /// How often it was attempted so far.
        attempts: u32,
    },
}

impl Outcome {
    /// How often the task was attempted.
    pub fn attempts(&self) -> u32 {
        match self {
            Self::Done { attempts }
            | Self::Skipped { attempts }
            | Self::DeadLettered { attempts }
            | Self::Parked { attempts }
            | Self::Stopped { attempts }
            | Self::Pending { attempts } => *attempts,
        }
    }
}
