//! What the operations topics say: tasks, and the letters that need nothing more.

use std::collections::BTreeMap;

use keylane::redrive::RedriveTaskError;
use keylane::redrive::ops::{Handled, OpsState};

use super::read::block_on;
use crate::arguments::{ByArgument, OpenArgument};
use crate::connection::Connection;
use crate::failure::Failure;

/// What the name of an operations topic ends with.
const SUFFIX: &str = "-keylane-ops";
/// More groups are not read: each takes a client of its own.
const MOST_GROUPS: usize = 200;
/// What is recorded of who did it.
const MOST_WHO_CHARACTERS: usize = 200;

/// The groups whose operations topics this client may see.
pub(super) fn groups(connection: &Connection) -> Result<Vec<String>, Failure> {
    let topics = connection.operator("keylane-dead-letters")?.topics()?;
    let group = |topic: &str| topic.strip_suffix(SUFFIX).map(str::to_owned);
    let groups: Vec<String> = topics.iter().filter_map(|it| group(&it.topic)).collect();
    match groups.len() > MOST_GROUPS {
        true => Err(Failure::Refused(format!(
            "there are {} operations topics (*{SUFFIX}), and no more than {MOST_GROUPS} are read: name the group",
            groups.len()
        ))),
        false => Ok(groups),
    }
}

/// What the operations topic of a group says, and what of it could not be read.
pub(super) fn state(
    connection: &Connection,
    group: &str,
) -> Result<(OpsState, Vec<String>), Failure> {
    let topic = connection.ops(group);
    let state = block_on(|| topic.read())??;
    let name = topic.name();
    let mut missing = Vec::new();
    let newer: Vec<&str> = state.newer().take(3).collect();
    if !newer.is_empty() {
        let keys = newer.join(", ");
        missing.push(format!(
            "{name} has records of a newer version of keylane, such as {keys}"
        ));
    }
    let dropped = state.dropped();
    for (count, what) in [
        (state.unreadable(), "records that cannot be read"),
        (dropped.tasks, "older tasks that are left out"),
        (
            dropped.orders,
            "older tasks whose copied letters count as open",
        ),
        (dropped.resolutions, "resolved ranges that count as open"),
    ] {
        if count > 0 {
            missing.push(format!("{name} has {count} {what}"));
        }
    }
    Ok((state, missing))
}

/// The letters of a topic that were written back or resolved, by whichever group.
pub(super) fn handled(
    connection: &Connection,
    topic: &str,
) -> Result<(Handled, Vec<String>), Failure> {
    let (mut all, mut missing) = (Vec::new(), Vec::new());
    for group in groups(connection)? {
        let (state, unread) = state(connection, &group)?;
        all.extend(state.handled(topic).ranges());
        missing.extend(unread);
    }
    Ok((all.into_iter().collect(), missing))
}

/// Which letters of a topic are done with, where it is asked for what is open.
pub(super) fn left_out(
    connection: &Connection,
    topic: &str,
    open: &OpenArgument,
) -> Result<(Handled, Vec<String>), Failure> {
    match open.open {
        true => handled(connection, topic),
        false => Ok((Handled::default(), Vec::new())),
    }
}

/// Who does it, for the record that is kept.
pub(super) fn who(
    by: &ByArgument,
    environment: &BTreeMap<String, String>,
) -> Result<String, Failure> {
    let given = by.by.as_deref().map(str::trim);
    let who = match given {
        Some(who) => who.to_owned(),
        None => {
            let user = ["USER", "LOGNAME"]
                .iter()
                .find_map(|it| environment.get(*it));
            format!("{}@{}", user.map_or("unknown", |it| it), host())
        }
    };
    let is_plain = |it: char| !it.is_control();
    if who.is_empty() || who.chars().count() > MOST_WHO_CHARACTERS || !who.chars().all(is_plain) {
        return Err(Failure::Usage(format!(
            "--by: give 1 to {MOST_WHO_CHARACTERS} characters without control characters"
        )));
    }
    Ok(who)
}

pub(super) fn host() -> String {
    gethostname::gethostname().to_string_lossy().into_owned()
}

/// With the flags of commands in place of the library's names.
impl From<RedriveTaskError> for Failure {
    fn from(error: RedriveTaskError) -> Self {
        use RedriveTaskError as Error;
        let text = error.to_string();
        match error {
            Error::Kafka(_) | Error::Setting { .. } => Self::Usage(text),
            Error::NoGroup => Self::Refused(
                "no dead letter that matches names a consumer group: give --group, and --retry-topic"
                    .to_owned(),
            ),
            Error::SeveralGroups { groups } => Self::Refused(format!(
                "the dead letters that match are of several groups ({}): choose one by --group",
                groups.join(", ")
            )),
            Error::Unfinished { id, who } => Self::Refused(format!(
                "the redrive {id} of the same topic, begun by {who}, has not ended: it runs, or its process was \
                 killed; go on with it by --resume {id}, or end it by --take-over"
            )),
            Error::Refused { id, place, reason } => Self::Unfinished(format!(
                "the redrive {id} has failed at the dead letter {place}: {reason}; mend that, or pass over such \
                 letters by --skip-refused"
            )),
            Error::HandledUnknown { topic, reason } => Self::Refused(format!(
                "the operations topic {topic} does not show all letters that were written back or resolved before: {reason}"
            )),
            // Copies may have been written before.
            Error::TakenOver
            | Error::Thread { .. }
            | Error::TooManyRefused { .. }
            | Error::Order { .. }
            | Error::Transaction { .. } => {
                Self::Unfinished(text)
            }
            _ => Self::Refused(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_the_user_at_this_host_unless_it_is_given() {
        let environment = BTreeMap::from([("USER".to_owned(), "ada".to_owned())]);
        let by = |by: &str| ByArgument {
            by: Some(by.to_owned()),
        };
        let nothing = ByArgument { by: None };
        assert_eq!(
            who(&nothing, &environment).unwrap(),
            format!("ada@{}", host())
        );
        assert!(
            who(&nothing, &BTreeMap::new())
                .unwrap()
                .starts_with("unknown@")
        );
        assert_eq!(who(&by(" a robot "), &environment).unwrap(), "a robot");
        for wrong in ["", " ", "a\nb", &"x".repeat(201)] {
            assert!(who(&by(wrong), &environment).is_err(), "{wrong}");
        }
    }
}
