//! Whether a commit's metadata survives: a broker may take less than keylane writes.

use keylane::operator::{NewOffset, OperatorError};
use keylane_core::{MAX_METADATA_BYTES, Position};

use super::Finding;
use crate::connection::Connection;
use crate::failure::Failure;

const CHECK: &str = "commit metadata";

/// Commits as much as keylane ever writes, for a group that nobody else uses, reads it back, and
/// deletes the group.
pub(super) fn check(connection: &Connection, group: &str, topic: &str) -> Result<Finding, Failure> {
    let scratch = format!("{group}.keylane-doctor");
    let operator = connection.operator(&scratch)?;
    let metadata = "x".repeat(MAX_METADATA_BYTES);
    let offset = NewOffset {
        topic: topic.to_owned(),
        partition: 0,
        position: Position::new(0),
        metadata: metadata.clone(),
    };
    if let Err(error) = operator.commit(&[offset]) {
        return Ok(refused(&scratch, &error));
    }
    let read = operator.committed(&[(topic.to_owned(), 0)])?;
    let mut read = read.into_iter().filter_map(|it| it.committed);
    let survives = read.next().is_some_and(|it| it.metadata == metadata);
    let finding = match survives {
        true => {
            let text = format!("{MAX_METADATA_BYTES} bytes survive");
            Finding::ok(CHECK, &scratch, text)
        }
        false => Finding::problem(
            CHECK,
            &scratch,
            "what was committed is not what is read back",
        )
        .fix("use brokers that keep commit metadata: without it records are repeated"),
    };
    Ok(match operator.delete_group() {
        Ok(()) => finding,
        Err(error) => {
            let text = format!("{} ({error})", finding.text);
            let fix = format!("delete group {scratch}, or let its commits expire");
            Finding { text, ..finding }.fix(fix)
        }
    })
}

fn refused(scratch: &str, error: &OperatorError) -> Finding {
    let text = error.to_string();
    if matches!(error, OperatorError::MetadataTooLarge { .. }) {
        return Finding::problem(CHECK, scratch, text)
            .fix("set the brokers' offset.metadata.max.bytes to 4096, Kafka's default");
    }
    Finding::unknown(CHECK, scratch, text)
        .fix(format!("allow READ on group {scratch} and on the topic"))
}
