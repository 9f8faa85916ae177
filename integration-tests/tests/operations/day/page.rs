//! A page of the manual as a list of steps: its blocks of commands, and what it shows below them.
//!
//! * A block `console` has commands, a line each.
//! * A block `text` right below it has what they print. Each of its lines is found in that, in the
//!   same order; `…` stands for any text, and columns may be wider. `(nothing)` is no output.
//! * The last line `(exit code 1)` is that of the last command. Every other command ends with 0.

use std::collections::VecDeque;

/// What a page shows where nothing is printed.
const NOTHING: &str = "(nothing)";

/// The sections of a page that are still to be followed.
pub(crate) struct Page {
    sections: VecDeque<(String, Vec<Step>)>,
}

/// A block of commands.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) commands: Vec<String>,
    /// Nothing is compared where it is empty.
    shown: Vec<String>,
    /// Of the last command.
    pub(crate) exit_code: i32,
}

impl Page {
    /// # Panics
    /// Where a block of output stands below none of commands.
    pub(crate) fn parse(text: &str) -> Self {
        let mut sections = VecDeque::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(title) = line.strip_prefix("## ") {
                sections.push_back((title.to_owned(), Vec::<Step>::new()));
            }
            let Some(kind) = line.strip_prefix("```") else {
                continue;
            };
            let block = lines.by_ref().take_while(|line| *line != "```");
            let block: Vec<String> = block.map(str::to_owned).collect();
            let steps = &mut sections.back_mut().expect("a section").1;
            match kind {
                "console" => steps.push(Step {
                    commands: block,
                    ..Step::default()
                }),
                "text" => steps.last_mut().expect("a command above").show(block),
                other => panic!("a block of {other:?}"),
            }
        }
        Self { sections }
    }

    /// The steps of the next section, which has this title.
    pub(crate) fn next(&mut self, title: &str) -> Vec<Step> {
        let (found, steps) = self.sections.pop_front().expect("a section");
        assert_eq!(found, title, "the sections are followed in their order");
        steps
    }

    pub(crate) fn is_done(&self) -> bool {
        self.sections.is_empty()
    }
}

impl Step {
    fn show(&mut self, mut block: Vec<String>) {
        assert!(self.shown.is_empty(), "two outputs of {:?}", self.commands);
        let code = block.last().and_then(|line| {
            line.strip_prefix("(exit code ")?
                .strip_suffix(')')?
                .parse()
                .ok()
        });
        if let Some(code) = code {
            self.exit_code = code;
            block.pop();
        }
        self.shown = block;
    }

    /// The first line of the page that the output does not have.
    pub(crate) fn missing_in(&self, output: &str) -> Option<&str> {
        if self.shown == [NOTHING] {
            return (!output.trim().is_empty()).then_some(NOTHING);
        }
        let mut printed = output.lines();
        let missing = self
            .shown
            .iter()
            .find(|line| !printed.any(|found| is_like(&one_space(found), &one_space(line))));
        missing.map(String::as_str)
    }
}

/// Whether a line is what the page shows, but for what stands in place of `…`.
fn is_like(line: &str, shown: &str) -> bool {
    let parts: Vec<&str> = shown.split('…').map(str::trim).collect();
    let [first, between @ .., last] = &parts[..] else {
        return line == shown;
    };
    let Some(mut rest) = line.strip_prefix(first) else {
        return false;
    };
    for part in between {
        let Some((_, after)) = rest.split_once(part) else {
            return false;
        };
        rest = after;
    }
    rest.ends_with(last)
}

fn one_space(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_line_is_like_what_is_shown_but_for_what_is_left_out() {
    for (line, shown) in [
        ("a  b   c", "a b c"),
        ("task INC-7", "task …"),
        ("a 1 b 2 c", "a … b … c"),
        ("404: gone", "… gone"),
        ("copied 3", "copied 3…"),
    ] {
        assert!(is_like(&one_space(line), &one_space(shown)), "{line}");
    }
    for (line, shown) in [
        ("a b", "a"),
        ("a", "a b"),
        ("x task 1", "task …"),
        ("a 1 c", "a … b … c"),
        ("b 1 a", "a … b"),
        ("a 1 b 2", "a … b"),
    ] {
        assert!(!is_like(line, shown), "{line} is not {shown}");
    }
}

#[test]
fn steps_have_their_commands_their_output_and_their_exit_code() {
    let text = "# Page\n## One\n```console\nls\npwd\n```\n```text\na …\nb\n(exit code 1)\n```\n## Two\n```console\ncd\n```\n";
    let mut page = Page::parse(text);
    let one = page.next("One").remove(0);
    assert_eq!(
        (&one.commands[..], one.exit_code),
        (&["ls".to_owned(), "pwd".to_owned()][..], 1)
    );
    assert_eq!(one.missing_in("first\na 7\nthen\nb\n"), None);
    assert_eq!(one.missing_in("b\na 7\n"), Some("b"), "in their order");
    let two = page.next("Two").remove(0);
    assert_eq!((two.missing_in("anything"), two.exit_code), (None, 0));
    assert!(page.is_done());
    let nothing = Page::parse("## A\n```console\nls\n```\n```text\n(nothing)\n```\n").next("A");
    assert_eq!(nothing[0].missing_in("\n"), None);
    assert_eq!(nothing[0].missing_in("a file\n"), Some(NOTHING));
}
