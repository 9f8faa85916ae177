//! The modules of keylane stand on floors: each uses those below it, and none above. So no two of
//! them import each other, neither straight nor in a ring.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The modules, from the lowest to the highest.
const FLOORS: [&str; 17] = [
    "support",
    "config",
    "record",
    "dead_letter",
    "processing",
    "layers",
    "status",
    "metrics",
    "trace",
    "kafka",
    "producer",
    "control",
    "redrive",
    "runtime",
    "polling",
    "subscription",
    "testing",
];
/// For tests alone; what they use is not of the structure.
const FOR_TESTS: [&str; 1] = ["fuzzing"];

#[test]
fn every_module_uses_only_what_stands_below_it() {
    let library = fs::read_to_string(source().join("lib.rs")).unwrap();
    let modules: Vec<&str> = library
        .lines()
        .filter_map(|line| {
            let line = line.strip_prefix("pub ").unwrap_or(line);
            line.strip_prefix("mod ")?.strip_suffix(';')
        })
        .collect();
    let known: BTreeSet<&str> = FLOORS.into_iter().chain(FOR_TESTS).collect();
    assert_eq!(
        known,
        modules.iter().copied().collect(),
        "a module is on no floor, or a floor has none"
    );

    let exported = exported(&library);
    let floor = |module: &str| FLOORS.iter().position(|it| *it == module);
    let (mut upwards, mut uses) = (Vec::new(), 0);
    for module in modules.iter().filter(|it| !FOR_TESTS.contains(it)) {
        for (file, text) in files(module) {
            for path in paths(&without_tests(&text)) {
                let used = match known.contains(&*path) {
                    true => &path,
                    false => exported.get(&path).unwrap_or(&path),
                };
                if used != module && known.contains(&**used) {
                    uses += 1;
                    if floor(used) > floor(module) {
                        upwards.push(format!("{}: {path} of {used}", file.display()));
                    }
                }
            }
        }
    }
    assert!(upwards.is_empty(), "{upwards:#?}");
    assert!(uses >= 150, "only {uses} uses were found");
}

/// What rdkafka has for consumers and for settings of clients.
const OF_CONSUMERS: [&str; 6] = [
    "ClientConfig",
    "BaseConsumer",
    "ConsumerContext",
    "TopicPartitionList",
    "rdkafka::consumer",
    "unsafe",
];

#[test]
fn only_the_kafka_module_names_rdkafkas_consumer_and_settings() {
    let named = |module: &str| {
        let mut named = Vec::new();
        for (file, text) in files(module) {
            let text = without_tests(&text);
            let is_named = |word: &&&str| has_word(&text, word);
            let found = OF_CONSUMERS.iter().filter(is_named);
            named.extend(found.map(|word| format!("{}: {word}", file.display())));
        }
        named
    };
    for module in FLOORS.iter().filter(|module| **module != "kafka") {
        assert_eq!(named(module), Vec::<String>::new());
    }
    assert!(named("kafka").len() >= 20, "they are found there");
}

fn has_word(text: &str, word: &str) -> bool {
    let is_of_name = |it: char| it.is_alphanumeric() || it == '_';
    text.match_indices(word).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + word.len()..]);
        !before.ends_with(is_of_name) && !after.starts_with(is_of_name)
    })
}

#[test]
fn paths_are_found_in_lists_and_in_lists_of_lists_and_not_in_comments_or_tests() {
    let text = "
use crate::kafka::{self, topics::{A, B}};
use crate::{Record, config::{Limits, names}};
/// [`Task`](crate::Task)
fn one() { crate::support::lock(); } // crate::metrics
#[cfg(test)]
mod tests {
    use crate::testing::TestTask;
}
fn two(_: crate::status::State) {}
";
    assert_eq!(
        paths(&without_tests(text)),
        ["kafka", "Record", "config", "support", "status"]
            .into_iter()
            .map(str::to_owned)
            .collect()
    );
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Which module each name at the crate's root comes from.
fn exported(library: &str) -> BTreeMap<String, String> {
    let mut exported = BTreeMap::new();
    // Public, and for the crate's own modules.
    let library = library.replace("\npub(crate) use ", "\npub use ");
    let library = library.replace("\npub(crate) use ", "\npub use ");
    for statement in library.split("\npub use ").skip(1) {
        let statement = statement.split(';').next().unwrap_or_default();
        let Some((module, names)) = statement.split_once("::") else {
            continue;
        };
        for name in names.split(|it: char| !it.is_alphanumeric() && it != '_') {
            exported.insert(name.to_owned(), module.to_owned());
        }
    }
    exported
}

/// The files of a module, but those that hold tests alone.
fn files(module: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut left = vec![source().join(module), source().join(format!("{module}.rs"))];
    while let Some(path) = left.pop() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name == "tests" || name.ends_with("tests.rs") {
            continue;
        }
        if path.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|it| it.unwrap().path()));
        } else if path.extension().is_some_and(|it| it == "rs") && path.exists() {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    found
}

/// Without comments, and without modules that are there in tests only.
fn without_tests(text: &str) -> String {
    let mut kept = String::new();
    let (mut is_for_tests, mut is_in_tests) = (false, false);
    for line in text.lines() {
        if is_in_tests {
            is_in_tests = line != "}";
            continue;
        }
        if line.starts_with("#[cfg(") {
            is_for_tests = line.contains("test");
        } else if is_for_tests && line.ends_with('{') && line.contains("mod ") {
            (is_in_tests, is_for_tests) = (true, false);
            continue;
        } else if !line.starts_with("#[") {
            is_for_tests = false;
        }
        kept.push_str(line.split("//").next().unwrap_or_default());
        kept.push('\n');
    }
    kept
}

/// The first name of each path that begins at the crate's root.
fn paths(text: &str) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for rest in text.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            Some(list) => paths.extend(firsts(list)),
            None => paths.extend(firsts(rest).into_iter().next()),
        }
    }
    paths
}

/// The names that a list begins its entries with, up to its closing brace.
fn firsts(list: &str) -> Vec<String> {
    let (mut found, mut name, mut depth, mut is_first) = (Vec::new(), String::new(), 0, true);
    for character in list.chars() {
        let is_of_name = character.is_alphanumeric() || character == '_';
        if depth == 0 && is_first && is_of_name {
            name.push(character);
            continue;
        }
        if !name.is_empty() {
            found.push(std::mem::take(&mut name));
            is_first = false;
        }
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => is_first = true,
            _ => {}
        }
    }
    found
}
