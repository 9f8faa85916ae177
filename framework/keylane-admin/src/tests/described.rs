//! `openapi.json` against what the server does.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::health::Code;
use crate::redrives::Phase;
use crate::routes::ROUTES;

fn document() -> Value {
    serde_json::from_str(include_str!("../openapi.json")).unwrap()
}

fn keys(object: &Value) -> Vec<&str> {
    object
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

/// What a reference stands for.
fn followed<'a>(document: &'a Value, described: &'a Value) -> &'a Value {
    let Some(reference) = described["$ref"].as_str() else {
        return described;
    };
    document
        .pointer(reference.strip_prefix('#').unwrap())
        .unwrap_or_else(|| panic!("{reference}"))
}

/// The path, the method, and the description of each operation.
fn operations(document: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths.flat_map(|(path, item)| {
        let operations = item.as_object().unwrap().iter();
        operations
            .filter(|(name, _)| *name != "parameters")
            .map(move |(method, operation)| (&**path, &**method, operation))
    })
}

/// What a schema demands that the value is not. Stricter than JSON Schema: fields that are not
/// described are refused.
fn faults(document: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    if schema.get("$ref").is_some() {
        return faults(document, followed(document, schema), value, at);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let of_each: Vec<_> = choices
            .iter()
            .map(|schema| faults(document, schema, value, at))
            .collect();
        let fitting = of_each.iter().filter(|faults| faults.is_empty()).count();
        return if fitting == 1 {
            Vec::new()
        } else {
            of_each.concat()
        };
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        many => many
            .as_array()
            .unwrap_or_else(|| panic!("{at} has no type"))
            .iter()
            .filter_map(Value::as_str)
            .collect(),
    };
    let fits = |name: &&str| match *name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{at}: the type {other}"),
    };
    let mut found = Vec::new();
    if !types.iter().any(fits) {
        found.push(format!("{at} is {value}, not {types:?}"));
    }
    if schema["enum"]
        .as_array()
        .is_some_and(|known| !known.contains(value))
    {
        found.push(format!("{at} is {value}, which is not listed"));
    }
    if let (Some(items), Some(values)) = (schema.get("items"), value.as_array()) {
        values
            .iter()
            .for_each(|value| found.extend(faults(document, items, value, &format!("{at}[]"))));
    }
    if let (Some(properties), Some(fields)) = (schema["properties"].as_object(), value.as_object())
    {
        let required = schema["required"].as_array().unwrap();
        found.extend(
            required
                .iter()
                .filter_map(Value::as_str)
                .filter(|name| !fields.contains_key(*name))
                .map(|name| format!("{at}.{name} is missing")),
        );
        for (name, value) in fields {
            match properties.get(name) {
                Some(schema) => {
                    found.extend(faults(document, schema, value, &format!("{at}.{name}")))
                }
                None => found.push(format!("{at}.{name} is not described")),
            }
        }
    }
    found
}

#[test]
fn the_paths_of_the_description_are_those_of_the_router() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    let described: BTreeSet<_> = keys(&document["paths"]).into_iter().collect();
    assert_eq!(described, ROUTES.iter().map(|(path, _)| *path).collect());
}

#[test]
fn the_placeholders_of_each_path_are_described() {
    let document = document();
    for (path, item) in document["paths"].as_object().unwrap() {
        let placeholders: Vec<_> = path
            .split(['{', '}'])
            .skip(1)
            .step_by(2)
            .map(Value::from)
            .collect();
        let described = item["parameters"].as_array().cloned().unwrap_or_default();
        let described: Vec<_> = described
            .iter()
            .map(|parameter| followed(&document, parameter)["name"].clone())
            .collect();
        assert_eq!(described, placeholders, "{path}");
    }
}

/// A request for a redrive has the fields of the library's, and those of an order.
#[test]
fn the_body_of_a_redrive_is_described() {
    let request = serde_json::to_value(keylane::redrive::RedriveRequest::default()).unwrap();
    let mut fields: BTreeSet<_> = keys(&request).into_iter().collect();
    fields.extend(crate::dead_letters::HEAD);
    let document = document();
    let body = &document["components"]["requestBodies"]["RedriveOrder"]["content"];
    let described = &body["application/json"]["schema"]["properties"];
    assert_eq!(keys(described).into_iter().collect::<BTreeSet<_>>(), fields);
}

#[tokio::test]
async fn each_path_takes_the_methods_that_are_described_and_no_others() {
    let shared = shared([&troubled("a")], Some(TOKEN));
    for (path, methods) in document()["paths"].as_object().unwrap() {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let request = request(method, &filled(path)).body(Body::empty()).unwrap();
            let is_taken = ask(&shared, request).await.status != StatusCode::METHOD_NOT_ALLOWED;
            assert_eq!(
                is_taken,
                methods.get(method.to_lowercase()).is_some(),
                "{method} {path}"
            );
        }
    }
}

/// Every field is always there, so a field of the description that no answer has is found by the
/// test below.
#[test]
fn every_field_of_every_object_is_required() {
    for (name, schema) in document()["components"]["schemas"].as_object().unwrap() {
        if let Some(properties) = schema.get("properties") {
            let required: BTreeSet<_> = schema["required"]
                .as_array()
                .unwrap()
                .iter()
                .filter_map(Value::as_str)
                .collect();
            assert_eq!(required, keys(properties).into_iter().collect(), "{name}");
        }
    }
}

#[test]
fn the_codes_of_reasons_are_all_listed() {
    let listed =
        document()["components"]["schemas"]["Reason"]["properties"]["code"]["enum"].clone();
    assert_eq!(listed, serde_json::to_value(Code::ALL).unwrap());
}

#[test]
fn the_names_of_states_and_kinds_are_those_of_the_code() {
    let document = document();
    let states = [
        State::Starting,
        State::Running,
        State::Paused,
        State::Rebalancing,
        State::Draining,
        State::Stopped,
        State::Failed,
    ];
    let kinds = [
        TroubleKind::Connection,
        TroubleKind::Authentication,
        TroubleKind::Authorization,
        TroubleKind::MissingTopic,
        TroubleKind::GroupProtocol,
        TroubleKind::Membership,
        TroubleKind::Commit,
        TroubleKind::ForeignRetries,
        TroubleKind::ControlTopic,
        TroubleKind::Other,
    ];
    let outages = [
        OutageKind::Total,
        OutageKind::Place,
        OutageKind::Class,
        OutageKind::BadDeployment,
        OutageKind::Unavailable,
    ];
    let records = [
        RecordState::Queued,
        RecordState::Running,
        RecordState::Waiting,
        RecordState::NotDue,
        RecordState::Publishing,
        RecordState::Parked,
        RecordState::Held,
        RecordState::KeyPaused,
    ];
    let phases = Phase::ALL.map(|it| serde_json::to_value(it).unwrap());
    let phases: Vec<_> = phases.iter().filter_map(Value::as_str).collect();
    for (field, names) in [
        ("Here/properties/phase", phases),
        (
            "SubscriptionSummary/properties/state",
            states.map(State::as_str).to_vec(),
        ),
        (
            "SubscriptionDetail/properties/state",
            states.map(State::as_str).to_vec(),
        ),
        (
            "OngoingOutage/properties/kind",
            outages.map(OutageKind::as_str).to_vec(),
        ),
        (
            "Trouble/properties/kind",
            kinds.map(TroubleKind::as_str).to_vec(),
        ),
        (
            "OldestRecord/properties/state",
            records.map(RecordState::as_str).to_vec(),
        ),
        (
            "OldestOfPartition/properties/state",
            records.map(RecordState::as_str).to_vec(),
        ),
    ] {
        let listed = document
            .pointer(&format!("/components/schemas/{field}/enum"))
            .unwrap();
        assert_eq!(*listed, serde_json::to_value(names).unwrap(), "{field}");
    }
}

fn filled(path: &str) -> String {
    path.replace("{name}", "a")
        .replace("{topic}", "tasks")
        .replace("{partition}", "0")
        .replace("{offset}", "41")
        .replace("{task}", "not-there")
}

/// The body of a well-meant request.
fn meant(path: &str) -> &'static str {
    match path {
        _ if path.contains("/keys/") => r#"{"key": "vehicle-4711", "by": "ann", "why": "INC-7"}"#,
        _ if path.contains("/records/") || path.ends_with("/release-held") => {
            r#"{"by": "ann", "why": "INC-7"}"#
        }
        _ => "",
    }
}

/// Makes the server give every answer there is: that of a well-meant request, and every refusal.
async fn drive(path: &str, method: &str) -> Vec<Answer> {
    let subscription = troubled("a");
    let (here, meant) = (filled(path), meant(path));
    let with_token = shared([&subscription], Some(TOKEN));
    let empty = shared([], Some(TOKEN));
    let ask_for =
        async |shared: &Arc<Shared>, path: &str, host: &str, token: Option<&str>, body: &str| {
            let mut request = Request::builder()
                .method(method)
                .uri(path)
                .header("Host", host);
            if let Some(token) = token {
                request = request.header("Authorization", format!("Bearer {token}"));
            }
            ask(shared, request.body(Body::from(body.to_owned())).unwrap()).await
        };
    let mut answers = vec![
        ask_for(&with_token, &here, "localhost", Some(TOKEN), meant).await,
        ask_for(&with_token, &here, "example.com", Some(TOKEN), meant).await,
    ];
    if path.contains("{name}") || path.starts_with("/health") {
        answers.push(ask_for(&empty, &here, "localhost", Some(TOKEN), meant).await);
    }
    if path == "/health/live" {
        subscription.set_state(State::Failed);
        answers.push(ask_for(&with_token, &here, "localhost", None, meant).await);
    }
    if path.ends_with("/oldest") || path.ends_with("/hot-keys") {
        answers.push(
            ask_for(
                &with_token,
                &format!("{here}?limit=0"),
                "localhost",
                None,
                meant,
            )
            .await,
        );
    }
    if method == "POST" {
        answers.push(ask_for(&with_token, &here, "localhost", None, meant).await);
        answers.push(
            ask_for(
                &shared([&subscription], None),
                &here,
                "localhost",
                Some(TOKEN),
                meant,
            )
            .await,
        );
        answers.push(
            ask_for(
                &with_token,
                &here,
                "localhost",
                Some(TOKEN),
                &"x".repeat(1 << 20),
            )
            .await,
        );
    }
    if !meant.is_empty() {
        answers.push(ask_for(&with_token, &here, "localhost", Some(TOKEN), "{}").await);
        let dry = meant.replace(r#""why""#, r#""dry_run": true, "why""#);
        answers.push(ask_for(&with_token, &here, "localhost", Some(TOKEN), &dry).await);
        let slow = (
            here.replace("/41/", "/503/"),
            meant.replace("vehicle-4711", "slow"),
        );
        answers.push(ask_for(&with_token, &slow.0, "localhost", Some(TOKEN), &slow.1).await);
    }
    if path.contains("/keys/") {
        let full = meant.replace("vehicle-4711", "full");
        answers.push(ask_for(&with_token, &here, "localhost", Some(TOKEN), &full).await);
    }
    if path.contains("/records/") {
        let refused = here.replace("/41/", "/409/");
        answers.push(ask_for(&with_token, &refused, "localhost", Some(TOKEN), meant).await);
    }
    if path == "/metrics" {
        let served = Shared {
            metrics: Some(Metrics::new(|| "keylane_pending_records 0\n".to_owned())),
            ..Arc::into_inner(empty).unwrap()
        };
        answers.push(ask_for(&Arc::new(served), &here, "localhost", None, meant).await);
    }
    answers
}

#[tokio::test]
async fn every_answer_is_as_described_and_everything_described_is_answered() {
    let document = document();
    let mut of_dead_letters = dead_letters::every_answer().await;
    for (path, method, operation) in operations(&document) {
        let responses = &operation["responses"];
        let mut expected: BTreeMap<&str, bool> = keys(responses)
            .into_iter()
            .map(|status| (status, false))
            .collect();
        let answers = match path.contains("/dead-letters/") {
            true => {
                let of_path = of_dead_letters.extract_if(.., |(it, _)| *it == path);
                of_path.map(|(_, answer)| answer).collect()
            }
            false => drive(path, &method.to_uppercase()).await,
        };
        for answer in answers {
            let at = format!("{method} {path} {}", answer.status.as_u16());
            let response = followed(&document, &responses[answer.status.as_str()]);
            assert!(
                !response.is_null(),
                "{at} is not described: {}",
                answer.text
            );
            *expected.get_mut(answer.status.as_str()).unwrap() = true;
            let (content_type, _) = answer
                .content_type()
                .split_once(';')
                .unwrap_or((answer.content_type(), ""));
            let schema = response["content"]
                .get(content_type)
                .unwrap_or_else(|| panic!("{at}: {content_type}"));
            let is_json = content_type.ends_with("json");
            let value = if is_json {
                answer.json()
            } else {
                Value::String(answer.text.clone())
            };
            assert_eq!(
                faults(&document, &schema["schema"], &value, &at),
                Vec::<String>::new()
            );
        }
        assert!(
            expected.values().all(|is_seen| *is_seen),
            "{method} {path}: never answered {expected:?}"
        );
    }
}

/// The comparison itself has to find something.
#[test]
fn an_answer_that_departs_from_its_schema_is_found() {
    let document = document();
    let schema = serde_json::json!({ "$ref": "#/components/schemas/Requested" });
    let good = serde_json::json!({ "action": "pause", "subscription": "a", "topic": null, "partition": 1 });
    assert_eq!(
        faults(&document, &schema, &good, "it"),
        Vec::<String>::new()
    );
    for (field, value) in [
        ("action", "jump".into()),
        ("partition", "one".into()),
        ("extra", Value::Null),
    ] {
        let mut bad = good.clone();
        bad[field] = value;
        assert_eq!(faults(&document, &schema, &bad, "it").len(), 1, "{field}");
    }
    let mut bad = good.clone();
    bad.as_object_mut().unwrap().remove("topic");
    assert_eq!(
        faults(&document, &schema, &bad, "it"),
        ["it.topic is missing"]
    );
}
