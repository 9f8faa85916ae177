//! Who may do what, on a Kafka with an authorizer.

use std::{
    io,
    time::{Duration, Instant},
};

use super::{
    Kafka,
    again::{PATIENCE, request_again},
    client::blocking,
    error::HarnessError,
    request::{Answer, Request, no_error_at},
};

const CREATE_ACLS: i16 = 30;
const DELETE_ACLS: i16 = 31;
const DESCRIBE_ACLS: i16 = 29;
const LITERAL: i8 = 3;
const ALLOW: i8 = 3;
/// Behind the throttle time and the number of results.
const FIRST_ERROR_AT: usize = 8;
/// In the description, behind the throttle time; behind it a text, mostly empty, and the number of
/// resources.
const ERROR_AT: usize = 4;
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What a permission is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource<'a> {
    /// A topic.
    Topic(&'a str),
    /// A consumer group.
    Group(&'a str),
    /// A transactional id.
    TransactionalId(&'a str),
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
    /// Allows it to a user such as `alice` (the principal `User:alice`). Blocks nothing; connected
    /// clients profit at once.
    ///
    /// # Errors
    /// When the broker refuses it or does not answer, for example because it has no
    /// authorizer.
    pub async fn allow(
        &self,
        user: &str,
        operation: Operation,
        on: Resource<'_>,
    ) -> Result<(), HarnessError> {
        self.change_acls(true, user, operation, on).await
    }

    /// Takes back what [`Kafka::allow`] gave; no error where there was nothing.
    ///
    /// # Errors
    /// As for [`Kafka::allow`].
    pub async fn forbid(
        &self,
        user: &str,
        operation: Operation,
        on: Resource<'_>,
    ) -> Result<(), HarnessError> {
        self.change_acls(false, user, operation, on).await
    }

    /// Returns when the queried broker applies it: the controller answers before.
    async fn change_acls(
        &self,
        allow: bool,
        user: &str,
        operation: Operation,
        on: Resource<'_>,
    ) -> Result<(), HarnessError> {
        let (api_key, what) = if allow {
            (CREATE_ACLS, "allow")
        } else {
            (DELETE_ACLS, "forbid")
        };
        let doing = format!("{what} {user} {operation:?} on {on:?}");
        let change = binding(Request::new(api_key, 1).int32(1), user, operation, on);
        let look = binding(Request::new(DESCRIBE_ACLS, 1), user, operation, on);
        let address = self.any_address();
        let change = move || {
            request_again(|| no_error_at(&change.exchange(&address)?, FIRST_ERROR_AT))?;
            let deadline = Instant::now() + PATIENCE;
            while has_any(&look.exchange(&address)?)? != allow {
                if Instant::now() >= deadline {
                    return Err(io::Error::other("the broker does not learn of it"));
                }
                std::thread::sleep(LOOK_AGAIN);
            }
            Ok(())
        };
        blocking(move || change().map_err(HarnessError::io(doing))).await
    }
}

/// Whether a description is of something.
fn has_any(description: &[u8]) -> io::Result<bool> {
    no_error_at(description, ERROR_AT)?;
    let mut rest = Answer::of(description.get(ERROR_AT + 2..).unwrap_or_default());
    rest.skip_text()?;
    Ok(rest.int32()? != 0)
}

/// A permission, or the filter for exactly that one: both look the same.
fn binding(request: Request, user: &str, operation: Operation, on: Resource<'_>) -> Request {
    let (kind, name) = match on {
        Resource::Topic(name) => (2, name),
        Resource::Group(name) => (3, name),
        Resource::TransactionalId(name) => (5, name),
    };
    let operation = match operation {
        Operation::Read => 3,
        Operation::Write => 4,
        Operation::Create => 5,
        Operation::Describe => 8,
    };
    request
        .int8(kind)
        .text(name)
        .int8(LITERAL)
        .text(&format!("User:{user}"))
        .text("*")
        .int8(operation)
        .int8(ALLOW)
}

#[cfg(test)]
mod tests {
    use super::has_any;

    #[test]
    fn a_description_with_an_empty_a_missing_and_some_text_is_understood() {
        let of = |text: &[u8], count: u8| [&[0; 6], text, &[0, 0, 0, count]].concat();
        for text in [&[0, 0][..], &[0xff, 0xff], &[0, 2, b'n', b'o']] {
            assert!(has_any(&of(text, 1)).unwrap());
            assert!(!has_any(&of(text, 0)).unwrap());
        }
        assert!(has_any(&[0; 9]).is_err());
        assert!(
            has_any(&[0, 0, 0, 0, 0, 31, 0, 0, 0, 0, 0, 0]).is_err(),
            "an error code"
        );
    }
}
