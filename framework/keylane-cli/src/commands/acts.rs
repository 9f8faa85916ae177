//! Acts on keys and records, through the members' admin endpoints: `keylane pause-key` and others.
//!
//! Each endpoint is asked in turn. A record is one member's; a key may be several members'.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use ureq::Agent;

use super::Report;
use crate::arguments::{ActArguments, Command, KeyActArguments, NoteArguments, RecordActArguments};
use crate::failure::Failure;
use crate::members::{agent, encoded, subscriptions_of, without_user};
use crate::output::{Cell, Table};

const TOKEN: &str = "KEYLANE_ADMIN_TOKEN";
const USER: &str = "USER";
/// A token of a header.
const LARGEST_TOKEN_BYTES: u64 = 4 * 1024;
/// The answer to an act is a sentence.
const LARGEST_ANSWER_BYTES: u64 = 64 * 1024;

const COLUMNS: &[&str] = &["member", "subscription", "action", "result", "text"];

/// An act, as it is sent to each member.
pub(crate) struct Order<'a> {
    members: &'a ActArguments,
    token: String,
    /// Below a subscription's.
    path: String,
    body: Value,
    is_of_one_member: bool,
}

/// What a member answers: an act, or a problem.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    action: String,
    result: String,
    text: String,
    code: String,
    detail: String,
}

/// The act that a command is, if it is one.
///
/// # Errors
/// There is no token, or no name of who orders it.
pub(crate) fn order<'a>(
    command: &'a Command,
    environment: &BTreeMap<String, String>,
) -> Result<Option<Order<'a>>, Failure> {
    let (members, path, body, is_of_one_member) = match command {
        Command::PauseKey(key) => of_key("pause", key, environment)?,
        Command::ResumeKey(key) => of_key("resume", key, environment)?,
        Command::RetryNow(key) => of_key("retry-now", key, environment)?,
        Command::DeadLetterNow(record) => of_record("dead-letter-now", record, environment)?,
        Command::Release(release) => {
            let body = note(&release.note, environment)?;
            (&release.members, "release-held".to_owned(), body, false)
        }
        _ => return Ok(None),
    };
    Ok(Some(Order {
        members,
        token: token(members.token_file.as_deref(), environment)?,
        path,
        body,
        is_of_one_member,
    }))
}

type Parts<'a> = (&'a ActArguments, String, Value, bool);

fn of_key<'a>(
    act: &str,
    arguments: &'a KeyActArguments,
    environment: &BTreeMap<String, String>,
) -> Result<Parts<'a>, Failure> {
    let mut body = note(&arguments.note, environment)?;
    for (name, value) in [
        ("key", &arguments.key.key),
        ("key_hash", &arguments.key.key_hash),
        ("topic", &arguments.topic),
    ] {
        if let Some(value) = value {
            body[name] = value.as_str().into();
        }
    }
    Ok((&arguments.members, format!("keys/{act}"), body, false))
}

fn of_record<'a>(
    act: &str,
    arguments: &'a RecordActArguments,
    environment: &BTreeMap<String, String>,
) -> Result<Parts<'a>, Failure> {
    let place = &arguments.record;
    let (topic, partition) = (encoded(&place.partition.topic), place.partition.partition);
    let path = format!(
        "partitions/{topic}/{partition}/records/{}/{act}",
        place.offset
    );
    let body = note(&arguments.note, environment)?;
    Ok((&arguments.members, path, body, true))
}

fn note(
    arguments: &NoteArguments,
    environment: &BTreeMap<String, String>,
) -> Result<Value, Failure> {
    let by = arguments.by.as_ref().or_else(|| environment.get(USER));
    let by = by.filter(|by| !by.trim().is_empty()).ok_or_else(|| {
        Failure::Usage("say who orders it: --by, or the environment USER".to_owned())
    })?;
    let mut body = json!({ "by": by, "why": arguments.why });
    // A member that does not have it refuses it.
    if arguments.dry_run {
        body["dry_run"] = true.into();
    }
    Ok(body)
}

/// Never by a flag's value, which other users of the machine see.
fn token(file: Option<&Path>, environment: &BTreeMap<String, String>) -> Result<String, Failure> {
    let token = match file {
        None => environment.get(TOKEN).cloned().unwrap_or_default(),
        Some(path) => {
            let wrong = |what: String| Failure::Usage(format!("{}: {what}", path.display()));
            let size = fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
            if size.len() > LARGEST_TOKEN_BYTES {
                return Err(wrong("a token has 4 KiB at most".to_owned()));
            }
            fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?
        }
    };
    let token = token.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::Usage(format!(
            "give the token of the admin endpoints, one line without spaces: --token-file, or the environment {TOKEN}"
        )));
    }
    Ok(token.to_owned())
}

impl Order<'_> {
    /// Sends it to each member.
    pub(crate) fn carry_out(&self, patience: Duration) -> Result<Report, Failure> {
        let agent = agent(&self.members.admin, patience)?;
        let (mut table, mut done) = (Table::new(COLUMNS), 0);
        let (mut refused, mut missing) = (Vec::new(), Vec::new());
        // Refusals of members that may have records of the key.
        let mut left_undone = Vec::new();
        for endpoint in &self.members.admin {
            let endpoint = endpoint.trim_end_matches('/');
            let shown = without_user(endpoint);
            let said = |reason: &str| format!("{shown}: {}", reason.replace(endpoint, &shown));
            let names = match subscriptions_of(&agent, endpoint, &self.members.group) {
                Ok(names) => names,
                Err(reason) => {
                    missing.push(said(&reason));
                    continue;
                }
            };
            for name in names {
                match self.send(&agent, endpoint, &name) {
                    Err(reason) => missing.push(said(&reason)),
                    Ok(answer) if answer.code == "no_answer" => missing.push(said(&answer.detail)),
                    Ok(answer) if !answer.code.is_empty() => {
                        let has_none = answer.code == "partition_not_assigned";
                        match self.is_of_one_member || has_none {
                            true => refused.push(said(&answer.detail)),
                            false => left_undone.push(said(&answer.detail)),
                        }
                    }
                    Ok(answer) => {
                        done += 1;
                        table.push(vec![
                            Cell::text(&*shown),
                            Cell::text(name),
                            Cell::text(answer.action),
                            Cell::text(answer.result),
                            Cell::text(answer.text),
                        ]);
                    }
                }
            }
        }
        if done == 0 && missing.is_empty() {
            refused.append(&mut left_undone);
            return Err(Failure::Refused(refused.join("\n")));
        }
        missing.append(&mut left_undone);
        // The record was at one of the others.
        if self.is_of_one_member && done > 0 {
            missing.clear();
        }
        Ok(Report {
            missing,
            notes: refused,
            ..table.into()
        })
    }

    /// What a member answers; an error where it is unknown what it has done.
    fn send(&self, agent: &Agent, endpoint: &str, name: &str) -> Result<Answer, String> {
        let address = format!(
            "{endpoint}/v1/subscriptions/{}/{}",
            encoded(name),
            self.path
        );
        let request = agent.post(&address).config();
        let request = request.http_status_as_error(false).build();
        let request = request
            .header("Authorization", format!("Bearer {}", self.token))
            .header("Content-Type", "application/json");
        let mut answer = request
            .send(self.body.to_string())
            .map_err(|error| error.to_string())?;
        let status = answer.status();
        let body = answer.body_mut().with_config().limit(LARGEST_ANSWER_BYTES);
        let text = body.read_to_string().map_err(|error| error.to_string())?;
        let answer: Answer = serde_json::from_str(&text)
            .map_err(|error| format!("{status}, not an answer of keylane: {error}"))?;
        let is_known = status.is_success() || !answer.code.is_empty();
        is_known
            .then_some(answer)
            .ok_or_else(|| format!("{status}, not an answer of keylane"))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_token_comes_by_file_or_environment_and_appears_in_no_error() {
        let given = |text: &str| BTreeMap::from([(TOKEN.to_owned(), text.to_owned())]);
        let by_environment = token(None, &given("b3f1-4c2a")).unwrap();
        assert_eq!(by_environment, "b3f1-4c2a");
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "9d7e").unwrap();
        let by_file = token(Some(file.path()), &given("b3f1-4c2a")).unwrap();
        assert_eq!(by_file, "9d7e");
        file.write_all(&[b'x'; 5_000]).unwrap();
        for refused in [
            token(None, &BTreeMap::new()),
            token(None, &given("secret words")),
            token(Some(file.path()), &given("b3f1-4c2a")),
            token(Some(Path::new("/no/such/file")), &BTreeMap::new()),
        ] {
            let failure = refused.unwrap_err();
            assert_eq!(failure.exit_code(), crate::failure::USAGE);
            assert!(!failure.to_string().contains("secret"), "{failure}");
        }
    }

    #[test]
    fn who_orders_it_is_the_user_unless_given() {
        let user = BTreeMap::from([(USER.to_owned(), "ann".to_owned())]);
        let arguments = |by: Option<&str>| NoteArguments {
            why: "INC-7".to_owned(),
            by: by.map(str::to_owned),
            dry_run: false,
        };
        let by = |by, environment| note(&arguments(by), environment).map(|body| body["by"].clone());
        assert_eq!(by(None, &user).unwrap(), "ann");
        assert_eq!(by(Some("bob"), &user).unwrap(), "bob");
        assert!(by(None, &BTreeMap::new()).is_err());
    }
}
