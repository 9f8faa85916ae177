//! Exit codes, and what needs no broker.

use crate::keylane;

#[test]
fn wrong_usage_has_a_code_of_its_own_and_says_what_is_wrong() {
    for wrong in [
        &["map", "group", "no-partition"][..],
        &["no-command"],
        &["map", "group", "a/1", "-o", "xml"],
        &["map", "group", "a/1", "-X", "no.such.setting=1"],
        &["map", "", "a/1"],
    ] {
        let answer = keylane(wrong);
        assert_eq!(answer.code, 2, "{answer:?}");
        assert!(answer.output.is_empty() && !answer.messages.is_empty());
    }
}

#[test]
fn a_cluster_that_is_not_there_is_a_refusal_with_the_reason() {
    // A port that nothing listens to.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let flags = ["--bootstrap", &address, "--timeout", "3s"];
    let answer = keylane(&[&["map", "group", "a/1"][..], &flags].concat());
    assert_eq!(answer.code, 1);
    assert!(answer.messages.contains("Connection refused"), "{answer:?}");
}

#[test]
fn help_completion_and_the_manual_page_need_no_cluster() {
    let help = keylane(&["--help"]);
    assert_eq!(help.code, 0);
    assert!(help.output.contains("map"), "{help:?}");
    for shell in ["bash", "zsh", "fish"] {
        let script = keylane(&["completion", shell]);
        assert_eq!(script.code, 0);
        assert!(script.output.contains("keylane"));
    }
    let page = keylane(&["man"]);
    assert_eq!(page.code, 0);
    assert!(page.output.contains(".SH \"KEYLANE MAP\""), "{page:?}");
}

/// A pipe whose reader has gone.
struct Closed;

impl std::io::Write for Closed {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let mut messages = Vec::new();
    let surroundings = keylane_cli::Surroundings {
        environment: std::collections::BTreeMap::new(),
        output: &mut Closed,
        messages: &mut messages,
        ask: None,
        progress: keylane_cli::Progress::Hidden,
    };
    let arguments = ["keylane", "completion", "bash"].map(Into::into);
    assert_eq!(keylane_cli::run(arguments, surroundings), 0);
    assert!(
        messages.is_empty(),
        "{}",
        String::from_utf8_lossy(&messages)
    );
}
