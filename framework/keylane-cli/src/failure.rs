//! Why a command did not do its work.

use std::io;

use keylane::control::ControlError;
use keylane::operator::OperatorError;

/// The exit code of a command that was refused or failed and has changed nothing, or of a check-up
/// that has found a problem.
pub(crate) const REFUSED: u8 = 1;
/// The exit code of wrong usage; clap's own too.
pub(crate) const USAGE: u8 = 2;
/// The exit code where a part of the result is missing, or it is unknown whether a change was made.
pub(crate) const PARTIAL: u8 = 3;

/// The end of a command without a result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command as it was given makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The command made sense, and was not carried out.
    #[error("{0}")]
    Refused(String),
    /// The command began a change, and did not finish it.
    #[error("{0}")]
    Unfinished(String),
    #[error(transparent)]
    Operator(#[from] OperatorError),
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_)
            | Self::Operator(OperatorError::Settings(_))
            | Self::Control(ControlError::Settings(_))
            | Self::Control(ControlError::Operator(OperatorError::Settings(_))) => USAGE,
            // A reader that has seen enough, such as `head`, is no failure.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            // The command may have made its change before.
            Self::Output(_)
            | Self::Unfinished(_)
            | Self::Operator(OperatorError::Unanswered { .. })
            | Self::Control(ControlError::Unanswered(_)) => PARTIAL,
            _ => REFUSED,
        }
    }
}
