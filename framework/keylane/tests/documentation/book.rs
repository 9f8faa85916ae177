//! The manual is a book: its contents, its includes and its examples are complete.

use std::collections::BTreeSet;

use super::links::joined;
use super::markdown::{Document, documents, includes, links, repository};

const SUMMARY: &str = "docs/src/SUMMARY.md";
const MANUAL: &str = include_str!("../../../../integration-tests/src/manual.rs");

#[test]
fn the_contents_list_every_page_once() {
    let (summary, pages): (Vec<_>, Vec<_>) =
        pages().into_iter().partition(|page| page.path == SUMMARY);
    let listed: Vec<String> = links(&summary[0].text)
        .iter()
        .filter_map(|link| joined(SUMMARY, &link.target))
        .collect();
    let once: BTreeSet<_> = listed.iter().cloned().collect();
    assert_eq!(listed.len(), once.len(), "a page is listed twice");
    assert_eq!(once, pages.into_iter().map(|page| page.path).collect());
}

#[test]
fn links_of_pages_stay_in_the_book() {
    for page in pages() {
        for link in links(&page.text)
            .iter()
            .filter(|link| !link.target.contains("://"))
        {
            let file = link.target.split('#').next().unwrap_or_default();
            let path = joined(&page.path, file).unwrap_or_default();
            assert!(
                file.is_empty() || path.starts_with("docs/src/"),
                "{}: {} is outside of the book; name its path instead",
                page.path,
                link.target
            );
        }
    }
}

#[test]
fn included_files_exist_and_have_no_relative_links_of_their_own() {
    let mut included = 0;
    for page in pages() {
        for file in includes(&page.text) {
            let path = joined(&page.path, file).unwrap();
            let text = std::fs::read_to_string(repository().join(&path));
            let text = text.unwrap_or_else(|_| panic!("{} includes {path}", page.path));
            for link in links(&text) {
                assert!(
                    link.target.contains("://"),
                    "{path}: {} would be broken in {}",
                    link.target,
                    page.path
                );
            }
            included += 1;
        }
    }
    assert!(included >= 3, "only {included} files are included");
}

#[test]
fn names_in_brackets_of_included_files_have_a_definition_on_the_page() {
    for page in pages() {
        for file in includes(&page.text) {
            let path = joined(&page.path, file).unwrap();
            let text = std::fs::read_to_string(repository().join(path)).unwrap();
            for name in text
                .split('[')
                .skip(1)
                .filter_map(|rest| rest.split_once(']'))
            {
                let (name, after) = name;
                let is_reference =
                    !after.starts_with('(') && !name.is_empty() && !name.contains('\n');
                if is_reference && !name.starts_with(char::is_numeric) {
                    let definition = format!("\n[{name}]: ");
                    assert!(
                        page.text.contains(&definition),
                        "{} does not define [{name}]",
                        page.path
                    );
                }
            }
        }
    }
}

#[test]
fn every_page_with_examples_is_compiled() {
    let is_page =
        |document: &Document| document.path == "README.md" || document.path.starts_with("docs/");
    let with_examples: BTreeSet<String> = documents()
        .into_iter()
        .filter(|document| is_page(document) && document.text.contains("```rust"))
        .map(|document| document.path)
        .collect();
    let compiled: BTreeSet<String> = MANUAL
        .lines()
        .filter_map(|line| Some(line.split_once(" = \"")?.1.split_once("\";")?.0.to_owned()))
        .collect();
    assert_eq!(with_examples, compiled);
    for document in documents().iter().filter(|document| is_page(document)) {
        for fence in document
            .text
            .lines()
            .filter_map(|line| line.strip_prefix("```rust"))
        {
            assert!(
                ["", ",no_run"].contains(&fence),
                "{}: rust{fence} is not compiled",
                document.path
            );
        }
    }
}

fn pages() -> Vec<Document> {
    documents()
        .into_iter()
        .filter(|document| document.path.starts_with("docs/src/"))
        .collect()
}

#[test]
fn decisions_are_numbered_listed_and_of_one_shape() {
    const INDEX: &str = "docs/decisions/README.md";
    let (index, pages): (Vec<_>, Vec<_>) = documents()
        .into_iter()
        .filter(|document| document.path.starts_with("docs/decisions/"))
        .partition(|document| document.path == INDEX);
    let listed: Vec<_> = links(&index[0].text)
        .iter()
        .filter_map(|link| joined(INDEX, &link.target))
        .collect();
    assert_eq!(
        listed,
        pages
            .iter()
            .map(|page| page.path.clone())
            .collect::<Vec<_>>()
    );
    for (number, page) in (1..).zip(&pages) {
        assert!(
            page.path
                .starts_with(&format!("docs/decisions/{number:04}-")),
            "{}",
            page.path
        );
        assert!(
            page.text.starts_with(&format!("# {number}. ")),
            "{}",
            page.path
        );
        for part in ["\n## Context\n", "\n## Decision\n", "\n## Consequences\n"] {
            assert!(page.text.contains(part), "{} lacks {part:?}", page.path);
        }
    }
}
