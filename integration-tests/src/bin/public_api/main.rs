//! Lists what the crates offer in public, from the pages that `cargo doc` has made, and compares it
//! with the lists in `framework/api`: a change of the interface is seen in the review. It also judges
//! what has changed since the last release, whose lists are in `framework/api/released`.
//!
//! ```console
//! cargo doc --workspace --no-deps
//! cargo run -p keylane-integration-tests --bin public_api              # compares and judges
//! cargo run -p keylane-integration-tests --bin public_api -- --write   # takes over what is there now
//! cargo run -p keylane-integration-tests --bin public_api -- --release # the same, as a release
//! ```
//!
//! cargo-semver-checks and cargo-public-api read rustdoc's JSON, which is for nightly toolchains. On
//! a stable one they depend on `RUSTC_BOOTSTRAP` and on the version of the format. They build the
//! crates and librdkafka a second time, and are built themselves first. The pages are there already.

mod judge;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

/// Those that users name. `keylane-core` and `keylane-connections` are parts of them.
const CRATES: [&str; 5] = [
    "keylane",
    "keylane_admin",
    "keylane_embedded_broker",
    "keylane_sql",
    "keylane_testkit",
];

/// The workspace's.
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = env::var_os("CARGO_TARGET_DIR").map_or(repository.join("target"), PathBuf::from);
    let asked = |flag| env::args().any(|argument| argument == flag);
    let (releases, lists) = (asked("--release"), repository.join("framework/api"));
    let writes = releases || asked("--write");
    let (mut changed, mut broken) = (Vec::new(), Vec::new());
    for name in CRATES {
        let list = listed(&target.join("doc").join(name), name)?;
        let file = lists.join(format!("{name}.txt"));
        let before = fs::read_to_string(&file).unwrap_or_default();
        let released = lists.join(format!("released/{name}.txt"));
        if releases {
            fs::write(&released, &list)?;
        }
        broken.extend(judge::broken(&read(&released)?, &list));
        if writes {
            fs::write(&file, list)?;
        } else if before != list {
            println!("{name}:");
            differences(&before, &list);
            changed.push(name);
        }
    }
    if !changed.is_empty() {
        println!(
            "the public interface has changed. If that is meant, write the lists again \
             (-- --write) and note it in CHANGELOG.md"
        );
    }
    let version = lists.join("released/version.txt");
    if releases {
        fs::write(&version, format!("{VERSION}\n"))?;
    }
    let released = read(&version)?;
    let faults = judge::faults(
        &broken,
        released.trim(),
        VERSION,
        &read(&repository.join("CHANGELOG.md"))?,
    );
    faults.iter().for_each(|fault| println!("{fault}"));
    Ok(if changed.is_empty() && faults.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn read(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))
}

fn differences(before: &str, after: &str) {
    let only = |sign, of: &str, not_of: &str| {
        let known: Vec<&str> = not_of.lines().collect();
        for line in of.lines().filter(|line| !known.contains(line)) {
            println!("{sign} {line}");
        }
    };
    only('-', before, after);
    only('+', after, before);
}

/// One line for each item, method, and implementation of a trait.
fn listed(docs: &Path, name: &str) -> Result<String, Box<dyn Error>> {
    let index = docs.join("all.html");
    let text = fs::read_to_string(&index)
        .map_err(|error| format!("{}: {error}; run cargo doc first", index.display()))?;
    let mut lines = Vec::new();
    for link in text.split("<li><a href=\"").skip(1) {
        let Some((page, rest)) = link.split_once("\">") else {
            continue;
        };
        let Some((item, _)) = rest.split_once("</a>").filter(|_| page.ends_with(".html")) else {
            continue;
        };
        let page = fs::read_to_string(docs.join(page))?;
        lines.extend(of_page(&format!("{name}::{item}"), &page));
    }
    lines.sort();
    Ok(lines.into_iter().map(|line| line + "\n").collect())
}

fn of_page(item: &str, page: &str) -> Vec<String> {
    // What every type has: auto traits, blanket implementations, and what it derefs to.
    let ends = [
        "id=\"synthetic-implementations\"",
        "id=\"blanket-implementations\"",
        "id=\"deref-methods",
        "id=\"foreign-impls\"",
        "id=\"implementors\"",
    ];
    let end = ends.iter().filter_map(|end| page.find(end)).min();
    let page = &page[..end.unwrap_or(page.len())];
    let (own, traits) = page
        .split_once("id=\"trait-implementations\"")
        .unwrap_or((page, ""));
    let mut lines = Vec::new();
    if let Some((_, declaration)) = own.split_once("<pre class=\"rust item-decl\"><code>") {
        let declaration = declaration
            .split("</code></pre>")
            .next()
            .unwrap_or_default();
        lines.push(format!("{item}: {}", plain(declaration)));
    }
    for section in own.split("class=\"method\">").skip(1) {
        lines.extend(header(section, "h4").map(|text| format!("{item}: {text}")));
    }
    for section in traits.split("class=\"impl\">").skip(1) {
        lines.extend(header(section, "h3").map(|text| format!("{item}: {text}")));
    }
    lines
}

fn header(section: &str, tag: &str) -> Option<String> {
    let (_, rest) = section.split_once(&format!("<{tag} class=\"code-header\">"))?;
    let (text, _) = rest.split_once(&format!("</{tag}>"))?;
    Some(plain(text))
}

/// Without tags and what folds up long lists, in one line.
fn plain(html: &str) -> String {
    let unfolded = html.split("<summary").enumerate().map(|(at, part)| {
        let folded = part.split_once("</summary>").filter(|_| at > 0);
        folded.map_or(part, |(_, rest)| rest)
    });
    let html: String = unfolded.collect();
    let mut text = String::new();
    let mut is_tag = false;
    for character in html.chars() {
        match character {
            '<' => is_tag = true,
            '>' => is_tag = false,
            _ if !is_tag => text.push(character),
            _ => {}
        }
    }
    let text = text
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&#39;", "'")
        .replace("&amp;", "&")
        .replace('\u{a0}', " ");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "
<pre class=\"rust item-decl\"><code>pub struct <b>Limits</b> {
<details><summary class=\"hideme\"><span>Show 1 fields</span></summary>    pub records: <a>Option</a>&lt;usize&gt;,
}</code></pre>
<section id=\"method.new\" class=\"method\"><a>Source</a><h4 class=\"code-header\">pub fn <a>new</a>() -&gt; Self</h4>
<h2 id=\"trait-implementations\">
<section id=\"impl-Clone\" class=\"impl\"><h3 class=\"code-header\">impl <a>Clone</a> for Limits</h3>
<section id=\"method.clone\" class=\"method trait-impl\"><h4 class=\"code-header\">fn clone(&amp;self) -&gt; Self</h4>
<h2 id=\"synthetic-implementations\">
<section id=\"impl-Send\" class=\"impl\"><h3 class=\"code-header\">impl Send for Limits</h3>";

    #[test]
    fn declarations_methods_and_implementations_are_listed() {
        assert_eq!(
            of_page("k::Limits", PAGE),
            [
                "k::Limits: pub struct Limits { pub records: Option<usize>, }",
                "k::Limits: pub fn new() -> Self",
                "k::Limits: impl Clone for Limits",
            ]
        );
    }
}
