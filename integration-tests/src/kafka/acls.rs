//! Who may do what, on a Kafka with an authorizer.

use super::{
    Kafka,
    client::blocking,
    error::HarnessError,
    request::{Request, no_error_at},
};

const CREATE_ACLS: i16 = 30;
const DELETE_ACLS: i16 = 31;
const LITERAL: i8 = 3;
const ALLOW: i8 = 3;
/// Behind the throttle time and the number of results.
const FIRST_ERROR_AT: usize = 8;

/// What a permission is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource<'a> {
    /// A topic.
    Topic(&'a str),
    /// A consumer group.
    Group(&'a str),
}

/// What is permitted. Reading and writing include describing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `READ`.
    Read,
    /// `WRITE`.
    Write,
    /// `CREATE`, of a topic.
    Create,
    /// `DESCRIBE`.
    Describe,
}

impl Kafka {
    /// Allows it to a user such as `alice` (the principal `User:alice`). Blocks nothing; connected clients profit at once.
    ///
    /// # Errors
    /// When the broker refuses it or does not answer within 15 s, for example because it has no authorizer.
    pub async fn allow(&self, user: &str, operation: Operation, on: Resource<'_>) -> Result<(), HarnessError> {
        let request = binding(Request::new(CREATE_ACLS, 1).int32(1), user, operation, on);
        self.change_acls(request, format!("allow {user} {operation:?} on {on:?}")).await
    }

    /// Takes back what [`Kafka::allow`] gave; no error where there was nothing.
    ///
    /// # Errors
    /// As for [`Kafka::allow`].
    pub async fn forbid(&self, user: &str, operation: Operation, on: Resource<'_>) -> Result<(), HarnessError> {
        let request = binding(Request::new(DELETE_ACLS, 1).int32(1), user, operation, on);
        self.change_acls(request, format!("forbid {user} {operation:?} on {on:?}")).await
    }

    async fn change_acls(&self, request: Request, doing: String) -> Result<(), HarnessError> {
        // Any node: it passes the request on to the controller.
        let address = self.bootstrap_servers.split(',').next().unwrap_or_default().to_owned();
        let change = move || no_error_at(&request.exchange(&address)?, FIRST_ERROR_AT);
        blocking(move || change().map_err(HarnessError::io(doing))).await
    }
}

/// A permission, or the filter for exactly that one: both look the same.
fn binding(request: Request, user: &str, operation: Operation, on: Resource<'_>) -> Request {
    let (kind, name) = match on {
        Resource::Topic(name) => (2, name),
        Resource::Group(name) => (3, name),
    };
    let operation = match operation {
        Operation::Read => 3,
        Operation::Write => 4,
        Operation::Create => 5,
        Operation::Describe => 8,
    };
    request.int8(kind).text(name).int8(LITERAL).text(&format!("User:{user}")).text("*").int8(operation).int8(ALLOW)
}
