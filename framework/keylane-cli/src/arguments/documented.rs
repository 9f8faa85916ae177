//! Every command of the manual and of the runbook is one that is understood.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;

use super::Arguments;

/// What pages write in place of a name or a number.
const PLACEHOLDERS: [(&str, &str); 3] = [
    ("$WHO", "--admin http://localhost:1 --by ann"),
    ("/PARTITION", "/0"),
    ("@OFFSET", "@0"),
];

/// Pages, and the commands on them.
fn commands() -> Vec<(PathBuf, String)> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = Vec::new();
    for folder in ["docs/src", "docker/runbook"] {
        collect(&repository.join(folder), &mut found);
    }
    found
}

fn collect(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|it| it == "md") {
            let text = fs::read_to_string(&path).unwrap().replace("\\\n", " ");
            let mut kind = None;
            for line in text.lines() {
                match (line.strip_prefix("```"), kind) {
                    (Some(fence), None) => kind = Some(fence),
                    (Some(_), Some(_)) => kind = None,
                    (None, Some("console" | "sh")) if line.starts_with("keylane ") => {
                        found.push((path.clone(), line.to_owned()));
                    }
                    _ => {}
                }
            }
        }
    }
}

/// The words of a line, as a shell has them: quotes, an escaped space, and a comment at the end.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    let mut characters = line.chars();
    while let Some(it) = characters.next() {
        let word = words.last_mut().unwrap();
        match (it, quote) {
            (it, Some(open)) if it == open => quote = None,
            (it, Some(_)) => word.push(it),
            ('\'' | '"', None) => quote = Some(it),
            ('\\', None) => word.extend(characters.next()),
            ('#', None) if word.is_empty() => break,
            (' ', None) if word.is_empty() => {}
            (' ', None) => words.push(String::new()),
            (it, None) => word.push(it),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn every_command_of_the_manual_and_the_runbook_is_understood() {
    let commands = commands();
    assert!(commands.len() >= 60, "only {} commands", commands.len());
    for (page, line) in commands {
        let filled_in = PLACEHOLDERS
            .iter()
            .fold(line.clone(), |line, (from, to)| line.replace(from, to));
        // What follows is the shell's.
        let command = filled_in.split(['|', '>']).next().unwrap_or_default();
        if let Err(error) = Arguments::try_parse_from(words(command)) {
            panic!("{}: {line}\n{error}", page.display());
        }
    }
}

#[test]
fn words_are_those_of_a_shell() {
    let found = words(r#"keylane  dlq --filter key=B-KL\ 42 --why "it's mended" # why"#);
    let expected = [
        "keylane",
        "dlq",
        "--filter",
        "key=B-KL 42",
        "--why",
        "it's mended",
    ];
    assert_eq!(found, expected);
}
