//! The fuzzers' corpora and random bytes, replayed.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

type Check = fn(&[u8]);

const CHECKS: [(&str, Check); 4] = [
    ("task_metadata", task_metadata),
    ("record_headers", record_headers),
    ("subscription_config", subscription_config),
    ("text", text),
];

fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(name);
    let files =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = files.map(|file| file.unwrap().path());
    let mut all: Vec<_> = paths
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    assert!(all.len() >= 5, "the corpus of {name} is missing");
    all.sort();
    all
}

#[test]
fn what_the_fuzzers_have_found_is_read_as_it_should_be() {
    for (name, check) in CHECKS {
        for (path, bytes) in corpus(name) {
            let replay = std::panic::catch_unwind(|| check(&bytes));
            assert!(replay.is_ok(), "{}", path.display());
        }
    }
}

/// The checks of settings rest on seeds that are read at all.
#[test]
fn the_corpus_of_settings_has_some_that_are_valid_and_some_that_are_refused() {
    let configs: Vec<crate::SubscriptionConfig> = corpus("subscription_config")
        .iter()
        .filter_map(|(_, bytes)| serde_json::from_slice(bytes).ok())
        .collect();
    assert!(
        configs
            .iter()
            .any(|config| config.validate().is_ok() && config.retry.topic.is_some())
    );
    assert!(configs.iter().any(|config| config.validate().is_err()));
    assert!(
        configs
            .iter()
            .any(|config| config.kafka.get("sasl.password").is_some())
    );
}

/// An entry of the corpus with some bytes changed, lost or doubled: most of its structure survives.
fn changed(name: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let seeds: Vec<_> = corpus(name).into_iter().map(|(_, bytes)| bytes).collect();
    let changes = vec((any::<prop::sample::Index>(), 0_u8..5, any::<u8>()), 0..4);
    (prop::sample::select(seeds), changes).prop_map(|(mut bytes, changes)| {
        for (at, kind, value) in changes {
            let at = at.index(bytes.len() + 1);
            match kind {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, value),
                _ if at == bytes.len() => bytes.push(value),
                2 => bytes[at] = value,
                3 => drop(bytes.remove(at)),
                _ => bytes.insert(at, bytes[at]),
            }
        }
        bytes
    })
}

proptest! {
    #[test]
    fn any_bytes_are_read_as_they_should_be(bytes in vec(any::<u8>(), 0..300)) {
        CHECKS.iter().for_each(|(_, check)| check(&bytes));
    }

    #[test]
    fn changed_metadata_is_read_or_refused(bytes in changed("task_metadata")) {
        task_metadata(&bytes);
    }

    #[test]
    fn changed_headers_are_read_by_the_book(bytes in changed("record_headers")) {
        record_headers(&bytes);
    }

    #[test]
    fn changed_settings_are_usable_or_refused(bytes in changed("subscription_config")) {
        subscription_config(&bytes);
    }

    #[test]
    fn changed_text_is_read_or_refused(bytes in changed("text")) {
        text(&bytes);
    }

    /// Fields of every number and type in any order: what random bytes rarely are.
    #[test]
    fn messages_of_any_fields_are_read_or_refused(
        fields in vec((1_u8..8, 0_u8..6, vec(any::<u8>(), 0..12)), 0..8),
    ) {
        let mut bytes = Vec::new();
        for (field, wire_type, content) in fields {
            bytes.push(field << 3 | wire_type);
            if wire_type == 2 {
                bytes.push(content.len() as u8);
            }
            bytes.extend(content);
        }
        task_metadata(&bytes);
    }
}
