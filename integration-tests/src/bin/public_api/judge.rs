//! Whether a change of the public interface breaks users, and what has to be done where it does.

/// The lines of the released list that no longer hold, and of an item that is gone its path.
///
/// A line that is gone or different breaks users, with one exception: a struct or an enum that is
/// `#[non_exhaustive]` and has all its members still. That is stricter than Cargo's rules, which
/// allow a signature to become more general.
pub(crate) fn broken(released: &str, now: &str) -> Vec<String> {
    let now: Vec<&str> = now.lines().collect();
    let is_kept = |line: &str| now.contains(&line) || now.iter().any(|now| has_grown(line, now));
    let is_there = |item: &str| now.iter().any(|line| split(line).0 == item);
    let gone = released.lines().filter(|line| !is_kept(line));
    let mut broken: Vec<String> = gone
        .map(|line| match split(line) {
            (item, _) if !is_there(item) => item.to_owned(),
            _ => line.to_owned(),
        })
        .collect();
    broken.dedup();
    broken
}

/// The item's path, and what is declared of it.
fn split(line: &str) -> (&str, &str) {
    line.split_once(": ").unwrap_or((line, ""))
}

/// What has to be done for these lines, in words; nothing where it is done.
///
/// The first section of the changelog, which is about the version to come, has to name each item
/// below *Changed* or *Removed*. The version has to be one that may break users.
pub(crate) fn faults(
    broken: &[String],
    released: &str,
    version: &str,
    changelog: &str,
) -> Vec<String> {
    let said = changes(changelog);
    let unsaid = broken
        .iter()
        .filter(|line| !names(line).all(|name| says(&said, name)));
    let mut faults: Vec<String> = unsaid
        .map(|line| format!("breaks users, and CHANGELOG.md does not name it as changed: {line}"))
        .collect();
    if !broken.is_empty() && !may_break(released, version) {
        faults.push(format!(
            "the public interface breaks users of {released}, which {version} may not: raise the \
             version in Cargo.toml"
        ));
    }
    faults
}

/// Whether this is the same `#[non_exhaustive]` type with further members.
fn has_grown(released: &str, now: &str) -> bool {
    let (Some((head, before)), Some((same_head, after))) =
        (released.split_once('{'), now.split_once('{'))
    else {
        return false;
    };
    let after = members(after);
    head == same_head
        && head.contains(": #[non_exhaustive]pub ")
        && members(before).iter().all(|member| after.contains(member))
}

/// Fields or variants, which may have fields of their own.
fn members(body: &str) -> Vec<&str> {
    let (mut depth, mut members, mut begin) = (0_i32, Vec::new(), 0);
    let mut before = ' ';
    for (at, character) in body.char_indices() {
        match character {
            '{' | '(' | '[' | '<' => depth += 1,
            '>' if before == '-' => {}
            '}' | ')' | ']' | '>' => depth -= 1,
            ',' if depth == 0 => {
                members.push(body[begin..at].trim());
                begin = at + 1;
            }
            _ => {}
        }
        before = character;
    }
    members
}

/// The item's own name, and that of its function.
fn names(line: &str) -> impl Iterator<Item = &str> {
    let (item, declared) = split(line);
    let function = declared.split_once("fn ").map(|(_, rest)| rest);
    let is_name = |character: char| character.is_alphanumeric() || character == '_';
    let function = function.and_then(|rest| rest.split(move |it| !is_name(it)).next());
    item.rsplit("::").take(1).chain(function)
}

/// What the first section of the changelog has below *Changed* and *Removed*.
fn changes(changelog: &str) -> String {
    let section = changelog.split("\n## ").nth(1).unwrap_or_default();
    let parts = section.split("\n### ").filter(|part| {
        let title = part.lines().next().unwrap_or_default();
        title == "Changed" || title == "Removed"
    });
    parts.collect()
}

/// Whether this word is there in code.
fn says(changes: &str, name: &str) -> bool {
    let mut code = changes.split('`').skip(1).step_by(2);
    code.any(|code| {
        code.split(|it: char| !it.is_alphanumeric() && it != '_')
            .any(|word| word == name)
    })
}

/// By Cargo's rules: the leftmost number that is not zero is larger.
fn may_break(released: &str, version: &str) -> bool {
    let numbers = |version: &str| -> Vec<u64> {
        let numbers = version.split(['.', '-', '+']).take(3);
        numbers.map(|number| number.parse().unwrap_or(0)).collect()
    };
    let (released, version) = (numbers(released), numbers(version));
    let leftmost = released.iter().position(|number| *number > 0);
    let decide = leftmost.map_or(released.len(), |at| at + 1);
    version.iter().take(decide).gt(released.iter().take(decide))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELEASED: &str = "\
k::Fate: #[non_exhaustive]pub enum Fate { Kept { at: Vec<(u8, u8)>, }, Gone, }
k::Lane: pub fn close(&self) -> bool
k::Lane: pub fn open(self, wide: impl Into<u32>) -> Self
k::Lane: pub struct Lane { pub width: u32, }
";

    fn broken_by(before: &str, after: &str) -> Vec<String> {
        assert!(RELEASED.contains(before));
        broken(RELEASED, &RELEASED.replace(before, after))
    }

    #[test]
    fn what_is_added_breaks_nothing() {
        let method = "k::Lane: pub fn new() -> Self\nk::Lane: pub fn open";
        assert_eq!(broken_by("k::Lane: pub fn open", method), [""; 0]);
        assert_eq!(broken_by("Gone, }", "Gone, Held(u8), }"), [""; 0]);
        assert_eq!(
            broken_by("{ Kept", "{ Away { by: fn() -> u8, }, Kept"),
            [""; 0]
        );
    }

    #[test]
    fn what_is_gone_or_different_breaks_users() {
        for (before, after, broken) in [
            ("k::Lane: pub fn close(&self) -> bool\n", "", 1),
            ("Into<u32>", "Into<u64>", 2),
            ("width: u32, }", "width: u32, pub depth: u32, }", 3),
            ("Gone, }", "}", 0),
            ("(u8, u8)", "(u8, u16)", 0),
        ] {
            let line = RELEASED.lines().nth(broken).unwrap();
            assert_eq!(broken_by(before, after), [line], "{after}");
        }
    }

    #[test]
    fn an_item_that_is_gone_is_one_loss() {
        assert_eq!(broken(RELEASED, ""), ["k::Fate", "k::Lane"]);
    }

    const CHANGELOG: &str = "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- `Fate::Held`, `close`.\n\n\
        ### Changed\n\n- `Lane::open` takes more. To close is gone.\n\n## [0.1.0]\n\n### Changed\n\n- `Fate`.\n";

    #[test]
    fn what_breaks_users_has_to_be_named_as_a_change_of_the_version_to_come() {
        let lines: Vec<String> = RELEASED.lines().map(str::to_owned).collect();
        let unsaid = faults(&lines, "0.1.0", "0.2.0", CHANGELOG);
        let of = |line: &str| {
            format!("breaks users, and CHANGELOG.md does not name it as changed: {line}")
        };
        assert_eq!(unsaid, [of(&lines[0]), of(&lines[1])]);
    }

    #[test]
    fn what_breaks_users_needs_a_version_that_may() {
        let line = RELEASED.lines().last().map(str::to_owned);
        let fault = |released: &str, version: &str| {
            !faults(line.as_slice(), released, version, CHANGELOG).is_empty()
        };
        for (released, version, is_fault) in [
            ("0.0.0", "0.1.0", false),
            ("0.1.0", "0.1.0", true),
            ("0.1.0", "0.1.1", true),
            ("0.1.3", "0.2.0", false),
            ("0.1.3", "1.0.0", false),
            ("1.2.3", "1.3.0", true),
            ("1.2.3", "2.0.0", false),
            ("2.0.0", "1.9.9", true),
        ] {
            assert_eq!(fault(released, version), is_fault, "{released} {version}");
        }
        assert!(faults(&[], "0.1.0", "0.1.0", CHANGELOG).is_empty());
    }
}
