//! Log lines that the pages for operators quote are written by the code in these words.

use std::fs;
use std::path::Path;

use super::markdown::{documents, prose, repository};

#[test]
fn every_log_line_that_operators_are_told_to_look_for_is_in_the_code() {
    let mut code = String::new();
    collect(&repository().join("framework/keylane/src"), &mut code);
    let code = joined_lines(&code);
    let mut quoted = 0;
    for page in documents() {
        if !page.path.starts_with("docs/src/operations/") {
            continue;
        }
        for quote in prose(&page.text).split('"').skip(1).step_by(2) {
            let quote = quote.split_whitespace().collect::<Vec<_>>().join(" ");
            // An ellipsis stands for what the line names.
            for part in quote
                .split('…')
                .map(str::trim)
                .filter(|part| !part.is_empty())
            {
                assert!(code.contains(part), "{}: no line has {part:?}", page.path);
                quoted += 1;
            }
        }
    }
    assert!(quoted >= 15, "only {quoted} lines are quoted");
}

/// All Rust of a folder.
pub(crate) fn collect(folder: &Path, code: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, code);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            code.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

/// A literal may go on in the next line, after a backslash.
fn joined_lines(code: &str) -> String {
    let mut parts = code.split("\\\n");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |joined, part| joined + part.trim_start())
}

#[test]
fn a_literal_over_two_lines_is_one() {
    assert_eq!(joined_lines("\"one \\\n    two\""), "\"one two\"");
}
