//! The documents of the repository, and what a reader of Markdown finds in one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A document, with its path in the repository.
pub(crate) struct Document {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// A link or an image.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) target: String,
}

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// Every document of the repository, but what a build writes.
pub(crate) fn documents() -> Vec<Document> {
    let mut found = Vec::new();
    collect(&repository(), "", &mut found);
    assert!(found.len() >= 60, "only {} documents", found.len());
    found
}

fn collect(folder: &Path, prefix: &str, found: &mut Vec<Document>) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(Result::unwrap).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().into_string().unwrap();
        let path = format!("{prefix}{name}");
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            let built = name == "target" || name.starts_with('.') || path == "docs/book";
            if !built {
                collect(&entry.path(), &format!("{path}/"), found);
            }
        } else if kind.is_file() && name.ends_with(".md") {
            found.push(Document {
                path,
                text: fs::read_to_string(entry.path()).unwrap(),
            });
        }
    }
}

/// The lines outside of fenced code, with code spans blanked out.
pub(crate) fn prose(text: &str) -> String {
    let mut fence = None;
    let mut prose = String::new();
    for line in text.lines() {
        let trimmed = line.trim_start();
        let marker = ["```", "~~~"]
            .into_iter()
            .find(|marker| trimmed.starts_with(marker));
        match (fence, marker) {
            (None, Some(marker)) => fence = Some(marker),
            (Some(open), Some(marker)) if open == marker => fence = None,
            (None, None) => prose.push_str(&without_code(line)),
            _ => {}
        }
        prose.push('\n');
    }
    prose
}

/// Code spans keep their length and lose their content.
fn without_code(line: &str) -> String {
    let mut parts = line.split('`');
    let mut text = parts.next().unwrap_or_default().to_owned();
    let mut inside = true;
    for part in parts {
        text.push('`');
        text.push_str(&if inside {
            "_".repeat(part.len())
        } else {
            part.to_owned()
        });
        inside = !inside;
    }
    text
}

/// Links, images, the targets of definitions, and `src` and `href` of HTML.
pub(crate) fn links(text: &str) -> Vec<Link> {
    let text = prose(text);
    let mut links = Vec::new();
    let mut add = |target: &str| {
        // A title may follow the target.
        let target = target.split_whitespace().next().unwrap_or_default();
        links.push(Link {
            target: target.trim_matches(['<', '>']).to_owned(),
        });
    };
    for (at, _) in text.match_indices("](") {
        if let Some((target, _)) = text[at + 2..].split_once(')') {
            add(target);
        }
    }
    for attribute in ["src=\"", "href=\""] {
        for (at, _) in text.match_indices(attribute) {
            if let Some((target, _)) = text[at + attribute.len()..].split_once('"') {
                add(target);
            }
        }
    }
    for line in text.lines() {
        if let Some((_, target)) = line
            .strip_prefix('[')
            .and_then(|rest| rest.split_once("]: "))
        {
            add(target);
        }
    }
    links
}

/// What a fragment may name: headings, as mdBook and GitHub make them, and ids of HTML.
pub(crate) fn anchors(text: &str) -> BTreeSet<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut anchors = BTreeSet::new();
    let mut fenced = false;
    for line in text.lines() {
        fenced ^= line.trim_start().starts_with("```");
        let title = line.trim_start_matches('#');
        if fenced || title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let slug = slug(title.trim());
        let count = seen.entry(slug.clone()).or_default();
        anchors.insert(if *count == 0 {
            slug
        } else {
            format!("{slug}-{count}")
        });
        *count += 1;
    }
    for (at, _) in text.match_indices("id=\"") {
        anchors.extend(text[at + 4..].split_once('"').map(|(id, _)| id.to_owned()));
    }
    anchors
}

fn slug(title: &str) -> String {
    // A link counts with its text.
    let mut text = String::new();
    let mut rest = title;
    while let Some((before, after)) = rest.split_once("](") {
        text.push_str(&before.replace('[', ""));
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    text.push_str(rest);
    text.to_lowercase()
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
            _ => None,
        })
        .collect()
}

/// What `{{#include …}}` names.
pub(crate) fn includes(text: &str) -> Vec<&str> {
    text.split("{{#include ")
        .skip(1)
        .filter_map(|rest| rest.split_once("}}"))
        .map(|(path, _)| path.trim())
        .collect()
}

#[test]
fn links_are_found_where_a_reader_sees_them() {
    let text = "[a](x.md#y \"title\") `[b](no.md)` ![c](c.svg)\n```\n[d](no.md)\n```\n[e]: e.md\n<img src=\"f.png\">";
    let found: Vec<_> = links(text).into_iter().map(|link| link.target).collect();
    assert_eq!(found, ["x.md#y", "c.svg", "f.png", "e.md"]);
}

#[test]
fn a_heading_is_an_anchor_and_a_comment_in_code_is_none() {
    let text =
        "# A `b` & [c](d)\n```sh\n# no heading\n```\n## Twice\n## Twice\n<a id=\"here\"></a>";
    let expected = ["a-b--c", "here", "twice", "twice-1"];
    assert_eq!(anchors(text).into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn includes_are_found() {
    assert_eq!(
        includes("a {{#include ../x.md}} b {{#include y.md}}"),
        ["../x.md", "y.md"]
    );
}
