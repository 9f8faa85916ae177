//! The fuzzers' corpora and random bytes, replayed.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

type Check = fn(&[u8]);

const CHECKS: [(&str, Check); 3] = [
    ("commit_text", commit_text),
    ("commit_sections", commit_sections),
    ("commit_round_trip", commit_round_trip),
];

fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(name);
    let files =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = files.map(|file| file.unwrap().path());
    paths
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

#[test]
fn what_the_fuzzers_have_found_is_read_as_it_should_be() {
    for (name, check) in CHECKS {
        let corpus = corpus(name);
        assert!(corpus.len() >= 5, "the corpus of {name} is missing");
        for (path, bytes) in corpus {
            let replay = std::panic::catch_unwind(|| check(&bytes));
            assert!(replay.is_ok(), "{}", path.display());
        }
    }
}

/// The checks rest on seeds that get past the checksum.
#[test]
fn the_corpus_of_texts_has_some_that_are_read_and_some_of_each_error() {
    let mut read = 0;
    let mut refused = Vec::new();
    for (_, bytes) in corpus("commit_text") {
        let mut input = Input::new(&bytes);
        let (position, _mask) = (Position::new(input.i64()), input.u32());
        match std::str::from_utf8(input.rest()).map(|text| (text.len(), decode(position, text))) {
            Ok((1.., Ok(_))) => read += 1,
            Ok((_, Err(error))) => refused.push(std::mem::discriminant(&error)),
            _ => {}
        }
    }
    assert!(read > 0);
    for error in [MapError::Foreign, MapError::Damaged, MapError::Version(2)] {
        assert!(
            refused.contains(&std::mem::discriminant(&error)),
            "{error:?}"
        );
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_as_they_should_be(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        CHECKS.iter().for_each(|(_, check)| check(&bytes));
    }

    /// Sections as they are written, with a byte or two changed: random ones are mostly refused at
    /// the first tag.
    #[test]
    fn sections_that_were_changed_under_a_right_checksum_are_read_by_the_book(
        position: i64,
        ranges in proptest::collection::vec((0_u8..4, 0_u8..4), 0..20),
        evidence in proptest::collection::vec(0_u8..6, 0..20),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), prop_oneof![0_u8..8, any::<u8>()]), 0..3),
    ) {
        let ranges: Vec<u8> = ranges.into_iter().flat_map(|(gap, run)| [gap, run]).collect();
        let mut bytes = position.to_le_bytes().to_vec();
        for (tag, content) in [(1, ranges), (2, evidence)] {
            bytes.extend([tag, content.len() as u8]);
            bytes.extend(content);
        }
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        commit_sections(&bytes);
    }

    /// What is damaged, moved or cut is refused, or nothing has changed.
    #[test]
    fn a_map_that_was_changed_on_the_way_is_never_taken_for_another(
        head in proptest::collection::vec(any::<u8>(), 40),
        position in 0_i64..1 << 40,
        ranges in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut bytes = position.to_le_bytes().to_vec();
        bytes.extend(head);
        bytes.extend(ranges);
        commit_round_trip(&bytes);
    }
}
