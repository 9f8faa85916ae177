//! Whether a commit's metadata survives: a broker may take less than keylane writes.

use keylane::operator::{GroupOffset, NewOffset, OperatorError};
use keylane_core::{MAX_METADATA_BYTES, Position};

use super::Finding;
use crate::connection::Connection;
use crate::failure::Failure;

const CHECK: &str = "commit metadata";

/// Commits as much as keylane ever writes, for a group without other users, reads it back, and
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
    let finding = match operator.commit(&[offset]) {
        Err(error @ OperatorError::Unanswered { .. }) => refused(&scratch, &error),
        Err(error) => return Ok(refused(&scratch, &error)),
        Ok(()) => {
            let read = operator.committed(&[(topic.to_owned(), 0)]);
            read_back(&scratch, &metadata, read)
        }
    };
    // Also where it is unknown what became of the commit.
    Ok(match operator.delete_group() {
        Ok(()) => finding,
        Err(error) => left_behind(&scratch, finding, &error),
    })
}

fn read_back(
    scratch: &str,
    metadata: &str,
    read: Result<Vec<GroupOffset>, OperatorError>,
) -> Finding {
    let read = match read {
        Ok(read) if read.iter().any(|it| it.is_refused) => {
            Err("the broker refuses to show the commit".to_owned())
        }
        Ok(read) => Ok(read.into_iter().find_map(|it| it.committed)),
        Err(error) => Err(error.to_string()),
    };
    match read {
        Ok(Some(committed)) if committed.metadata == metadata => {
            let text = format!("{MAX_METADATA_BYTES} bytes survive");
            Finding::ok(CHECK, scratch, text)
        }
        Ok(_) => Finding::problem(
            CHECK,
            scratch,
            "what was committed is not what is read back",
        )
        .fix("use brokers that keep commit metadata: without it records are repeated"),
        Err(reason) => {
            let text = format!("what was committed cannot be read back: {reason}");
            let fix = format!("allow DESCRIBE on group {scratch}");
            Finding::unknown(CHECK, scratch, text).fix(fix)
        }
    }
}

/// The finding, and with it the group that could not be deleted.
fn left_behind(scratch: &str, finding: Finding, error: &OperatorError) -> Finding {
    let text = format!("{} ({error})", finding.text);
    let delete = format!("delete group {scratch}, or let its commits expire");
    let fix = match &finding.fix {
        Some(fix) => format!("{fix}; {delete}"),
        None => delete,
    };
    Finding { text, ..finding }.fix(fix)
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

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    fn failed(doing: &str) -> OperatorError {
        OperatorError::Failed {
            doing: doing.to_owned(),
            reason: "the cluster refuses".to_owned(),
        }
    }

    #[test]
    fn a_commit_that_cannot_be_read_back_is_a_finding_and_keeps_its_fix_beside_the_groups() {
        let refused = GroupOffset {
            topic: "a".to_owned(),
            partition: 0,
            committed: None,
            is_refused: true,
        };
        for read in [Err(failed("read")), Ok(vec![refused])] {
            let finding = read_back("g.keylane-doctor", "x", read);
            assert_eq!(finding.verdict, Verdict::Unknown);
            let left = left_behind("g.keylane-doctor", finding, &failed("delete"));
            assert_eq!(
                left.fix.as_deref(),
                Some(
                    "allow DESCRIBE on group g.keylane-doctor; \
                     delete group g.keylane-doctor, or let its commits expire"
                )
            );
        }
        let lost = read_back("g.keylane-doctor", "x", Ok(Vec::new()));
        assert_eq!(lost.verdict, Verdict::Problem);
    }
}
