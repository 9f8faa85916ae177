use proptest::prelude::*;

use super::*;
use crate::Headers;
use crate::record::{Arena, Record, RecordHeaders};

fn letter(headers: &[(&str, &str)]) -> StoredLetter {
    let mut all: Headers = [("keylane-group", "notifier"), ("keylane-reason", "fatal")]
        .into_iter()
        .collect();
    for (name, value) in headers {
        all.push(*name, (*value).to_owned());
    }
    let headers = Some(RecordHeaders {
        all,
        ..RecordHeaders::default()
    });
    let at = Some(1_763_698_843_017);
    let (key, value) = (Some(&b"B-KL 42"[..]), Some(&b"{}"[..]));
    let record = Record::new(&mut Arena::default(), 100, at, key, value, headers);
    StoredLetter::new("dead".into(), 3, record).expect("a letter")
}

fn said() -> StoredLetter {
    letter(&[
        ("tenant", "a"),
        ("tenant", "b"),
        ("keylane-error-class", "gate::Busy"),
        ("keylane-error", "gate 7 timed out"),
    ])
}

fn holds(term: &str, letter: &StoredLetter) -> bool {
    let filter = Filter::parse([term]).unwrap_or_else(|error| panic!("{error}"));
    filter.matches(letter)
}

#[test]
fn each_term_holds_for_what_it_means_and_for_nothing_else() {
    let said = said();
    let fingerprint = said.fingerprint();
    let id = format!("fingerprint={}", fingerprint.id());
    let text = format!("fingerprint={}", fingerprint.text());
    for (term, is_meant) in [
        ("reason=fatal", true),
        ("reason=fata", false),
        ("class=gate::Busy", true),
        ("class=Busy", false),
        ("error~tim.+out$", true),
        ("error~Timed", false),
        ("error~(?i)Timed", true),
        (&id, true),
        (&text, true),
        ("fingerprint=0123456789abcdef", false),
        ("group=notifier", true),
        ("group=", false),
        ("key=B-KL 42", true),
        ("key=", false),
        ("header:tenant=b", true),
        ("header:tenant=a", false),
        ("partition=3", true),
        ("partition=2", false),
        ("offset=100..101", true),
        ("offset=..100", false),
        ("offset=101..", false),
        ("offset=..", true),
        (
            "time=2025-11-21T04:20:43.017Z..2025-11-21T04:20:43.018Z",
            true,
        ),
        ("time=..2025-11-21T04:20:43.017Z", false),
        ("time=2025-11-21 04:20:44..", false),
    ] {
        assert_eq!(holds(term, &said), is_meant, "{term}");
    }
}

#[test]
fn the_time_is_that_of_the_last_failure_where_the_letter_says_it() {
    let letter = letter(&[("keylane-last-failure", "2025-11-20T00:00:00.000Z")]);
    assert!(holds("time=..2025-11-21T00:00:00Z", &letter));
}

#[test]
fn what_a_letter_does_not_say_holds_for_no_term_and_all_terms_have_to_hold() {
    let bare = letter(&[]);
    for term in ["class=", "error~", "header:tenant="] {
        assert!(!holds(term, &bare), "{term}");
    }
    let both = |second| Filter::parse(["reason=fatal", second]).unwrap();
    assert!(both("partition=3").matches(&bare));
    assert!(!both("partition=4").matches(&bare));
    assert!(Filter::default().matches(&bare));
}

#[test]
fn an_error_names_the_term_and_the_fault() {
    for (term, reason) in [
        ("exhausted", "write reason=…"),
        ("reasons=x", "there is no such term"),
        ("error=x", "error~…"),
        ("reason~x", "only error can be matched by ~"),
        ("error~(", "no regular expression"),
        ("error~(?:a{500}){500}", "no regular expression"),
        ("offset=5", "two ends"),
        ("offset=5..4", "5 is not before 4"),
        ("offset=-1..4", "no number from 0 on"),
        ("partition=x", "no number from 0 on"),
        ("time=yesterday..", "2026-11-21T04:00:00Z"),
    ] {
        let error = Filter::parse([term]).unwrap_err().to_string();
        let names = format!("the filter term {term:?} is wrong: ");
        assert!(
            error.starts_with(&names) && error.contains(reason),
            "{error}"
        );
    }
    let long = format!("error~{}", "x".repeat(1 << 20));
    let error = Filter::parse([long]).unwrap_err().to_string();
    assert!(
        error_text::tests::is_bounded(&error),
        "{} bytes",
        error.len()
    );
    let many = Filter::parse(vec!["key=x"; 33]).unwrap_err();
    assert_eq!(many, FilterError::TooManyTerms);
}

proptest! {
    #[test]
    fn any_text_is_a_filter_or_an_error(text in "(error~|offset=|time=|header:)?.{0,40}") {
        if let Ok(filter) = Filter::parse([&text]) {
            let _ = filter.matches(&said());
            prop_assert_eq!(filter.to_string(), text);
        }
    }
}
