//! The bodies of orders: who orders something, and why.

use axum::http::StatusCode;
use keylane::subscription::OperatorNote;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::problem::Problem;

/// Whether an order is only tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "bool")]
pub(crate) enum DryRun {
    #[default]
    No,
    Yes,
}

impl From<bool> for DryRun {
    fn from(is_dry: bool) -> Self {
        match is_dry {
            true => Self::Yes,
            false => Self::No,
        }
    }
}

pub(crate) fn order<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| no_order(&error))
}

pub(crate) fn no_order(error: &serde_json::Error) -> Problem {
    bad_body(format!("the body is not an order in JSON: {error}"))
}

pub(crate) fn note(by: String, why: String) -> Result<OperatorNote, Problem> {
    if by.trim().is_empty() || why.trim().is_empty() {
        return Err(bad_body("`by` and `why` say who orders this, and why"));
    }
    Ok(OperatorNote::new(by, why))
}

pub(crate) fn bad_body(text: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad_body", text)
}
