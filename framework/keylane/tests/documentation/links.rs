//! Every relative link of every document leads somewhere, and so does every fragment.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path};

use super::markdown::{anchors, documents, includes, links, repository};

#[test]
fn every_relative_link_leads_to_a_file_and_every_fragment_to_a_heading() {
    let documents = documents();
    let texts: BTreeMap<&str, String> = documents
        .iter()
        .map(|document| {
            (
                &*document.path,
                with_includes(&document.path, &document.text),
            )
        })
        .collect();
    let mut broken = Vec::new();
    let mut checked = 0;
    for document in &documents {
        for link in links(&document.text) {
            if is_elsewhere(&link.target) {
                continue;
            }
            checked += 1;
            let (file, fragment) = link.target.split_once('#').unwrap_or((&link.target, ""));
            let path = if file.is_empty() {
                Some(document.path.clone())
            } else {
                joined(&document.path, file)
            };
            let there = path
                .as_deref()
                .is_some_and(|path| repository().join(path).exists());
            let has_fragment = fragment.is_empty()
                || path
                    .and_then(|path| texts.get(&*path))
                    .is_some_and(|text| anchors(text).contains(fragment));
            if !there || !has_fragment {
                broken.push(format!("{}: {}", document.path, link.target));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(checked >= 200, "only {checked} links");
}

#[test]
fn no_document_names_an_item_of_the_api_by_a_path_that_only_rustdoc_resolves() {
    let broken: Vec<_> = documents()
        .iter()
        .flat_map(|document| {
            let bad = links(&document.text)
                .into_iter()
                .filter(|link| link.target.contains("::"));
            bad.map(|link| format!("{}: {}", document.path, link.target))
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn rows_of_a_table_have_as_many_cells_as_its_head() {
    for document in documents() {
        let mut cells = None;
        for line in super::markdown::prose(&document.text).lines() {
            let count = line
                .starts_with('|')
                .then(|| line.replace("\\|", "").matches('|').count());
            if let (Some(count), Some(before)) = (count, cells) {
                assert_eq!(count, before, "{}: {line}", document.path);
            }
            cells = count;
        }
    }
}

/// The text as the book shows it.
fn with_includes(path: &str, text: &str) -> String {
    let included = includes(text).into_iter().filter_map(|file| {
        let file = repository().join(joined(path, file)?);
        fs::read_to_string(file).ok()
    });
    std::iter::once(text.to_owned())
        .chain(included)
        .collect::<Vec<_>>()
        .join("\n")
}

fn is_elsewhere(target: &str) -> bool {
    ["http://", "https://", "mailto:"]
        .iter()
        .any(|scheme| target.starts_with(scheme))
}

/// The path in the repository of a file that a document names, if it stays inside.
pub(crate) fn joined(document: &str, file: &str) -> Option<String> {
    let mut parts: Vec<&str> = document.split('/').collect();
    parts.pop();
    for component in Path::new(file).components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                parts.pop()?;
            }
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}
