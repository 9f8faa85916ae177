use proptest::prelude::*;

use super::*;
use crate::evidence::{GROUP, Instance, MAX_SUSPECTS, Named, Suspect};

fn map(ranges: &[(i64, i64)]) -> SettledMap {
    let mut map = SettledMap::new();
    for &(first, last) in ranges {
        assert!(map.append(SettledRange {
            first: Offset::new(first),
            last: Offset::new(last)
        }));
    }
    map
}

fn only(settled: SettledMap) -> CommitContent {
    CommitContent {
        settled,
        ..CommitContent::default()
    }
}

#[test]
fn nothing_settled_is_the_empty_text() {
    let metadata = encode(
        Position::new(5),
        [],
        &Evidence::default(),
        MAX_METADATA_BYTES,
    );
    assert_eq!(
        metadata,
        CommitMetadata {
            text: String::new(),
            truncated: false
        }
    );
    assert_eq!(decode(Position::new(5), ""), Ok(CommitContent::default()));
}

#[test]
fn the_text_of_a_known_map_does_not_change() {
    let metadata = encode(
        Position::new(100),
        map(&[(101, 103), (110, 300)]).ranges(),
        &Evidence::default(),
        MAX_METADATA_BYTES,
    );
    assert_eq!(metadata.text, "kl1.rtYvTgEETMAvwA");
    assert_eq!(
        decode(Position::new(100), &metadata.text),
        Ok(only(map(&[(101, 103), (110, 300)])))
    );
}

#[test]
fn ranges_that_touch_are_written_as_one() {
    let halves = [(11, 12), (13, 20)].map(|(first, last)| SettledRange {
        first: Offset::new(first),
        last: Offset::new(last),
    });
    let metadata = encode(
        Position::new(10),
        halves,
        &Evidence::default(),
        MAX_METADATA_BYTES,
    );
    assert_eq!(
        decode(Position::new(10), &metadata.text),
        Ok(only(map(&[(11, 20)])))
    );
}

#[test]
fn metadata_moved_to_another_position_is_refused() {
    let metadata = encode(
        Position::new(100),
        map(&[(101, 103)]).ranges(),
        &Evidence::default(),
        MAX_METADATA_BYTES,
    );
    for moved in [0, 99, 101, 1_000, -1_001] {
        assert_eq!(
            decode(Position::new(moved), &metadata.text),
            Err(MapError::Damaged)
        );
    }
}

#[test]
fn foreign_metadata_and_other_versions_are_told_apart() {
    let position = Position::new(1);
    for foreign in [
        "x",
        "kl",
        "kl1",
        "kl.AAAA",
        "klx.AAAA",
        "kl99999999999.AAAA",
        "AgAAAXk",
        "{\"v\":1}",
        "kl+1.AAAA",
    ] {
        assert_eq!(
            decode(position, foreign),
            Err(MapError::Foreign),
            "{foreign}"
        );
    }
    assert_eq!(decode(position, "kl2.AAAA"), Err(MapError::Version(2)));
    assert_eq!(decode(position, "kl1."), Err(MapError::Damaged));
    assert_eq!(decode(position, "kl1.####"), Err(MapError::Damaged));
}

/// One offset left out, then one settled.
const ONE_SETTLED: u8 = 0b0101_0000;

#[test]
fn an_unknown_section_is_skipped_and_a_repeated_or_cut_one_refused() {
    let position = Position::new(7);
    assert_eq!(
        decode(
            position,
            &sealed(position, &[9, 2, 0, 0, 1, 1, ONE_SETTLED])
        ),
        Ok(only(map(&[(8, 8)])))
    );
    assert_eq!(
        decode(position, &sealed(position, &[9, 0])),
        Ok(CommitContent::default())
    );
    for (sections, why) in [
        (
            [1, 1, ONE_SETTLED, 1, 1, ONE_SETTLED].as_slice(),
            "repeated",
        ),
        (&[1, 2, ONE_SETTLED], "cut"),
        (&[1, 1, 0b1000_0000], "a gap without a run"),
        (&[1, 2, ONE_SETTLED, 0], "a byte of padding"),
        (&[1, 1, 0], "nothing but filling"),
    ] {
        assert_eq!(
            decode(position, &sealed(position, sections)),
            Err(MapError::Damaged),
            "{why}"
        );
    }
}

#[test]
fn runs_that_leave_the_range_of_offsets_are_refused() {
    let position = Position::new(i64::MAX - 2);
    for numbers in [
        [2, 1].as_slice(),
        &[6, 1],
        &[1, 3],
        &[u64::MAX, 1],
        &[1, u64::MAX],
        &[1, 1, 1, 1],
    ] {
        let mut writer = crate::elias_gamma::Writer::default();
        numbers.iter().for_each(|&number| writer.push(number));
        let content = writer.into_bytes();
        let mut sections = vec![SETTLED_RANGES, content.len() as u8];
        sections.extend_from_slice(&content);
        let read = decode(position, &sealed(position, &sections));
        if numbers == [2, 1] {
            assert_eq!(
                read,
                Ok(only(map(&[(i64::MAX - 1, i64::MAX - 1)]))),
                "the last offset that has one behind it"
            );
        } else {
            assert_eq!(read, Err(MapError::Damaged), "{numbers:?}");
        }
    }
}

#[test]
fn room_for_less_than_one_range_gives_the_empty_text() {
    for max_bytes in 0..16 {
        let metadata = encode(
            Position::new(0),
            map(&[(1, 1)]).ranges(),
            &Evidence::default(),
            max_bytes,
        );
        assert!(metadata.text.len() <= max_bytes);
        assert_eq!(metadata.text.is_empty(), metadata.truncated);
    }
}

prop_compose! {
    fn any_map()(position in 0_i64..1_000_000_000_000, steps in proptest::collection::vec((0_i64..400, 1_i64..3_000), 0..600))
        -> (Position, Vec<(i64, i64)>)
    {
        let mut cursor = position;
        let mut ranges: Vec<(i64, i64)> = Vec::new();
        for (gap, run) in steps {
            let gap = if ranges.is_empty() { gap } else { gap + 1 };
            ranges.push((cursor + gap, cursor + gap + run - 1));
            cursor += gap + run;
        }
        (Position::new(position), ranges)
    }
}

proptest! {
    #[test]
    fn what_fits_comes_back_and_what_does_not_is_the_longest_prefix((position, ranges) in any_map(), max_bytes in 0_usize..4_200) {
        let whole = map(&ranges);
        let metadata = encode(position, whole.ranges(), &Evidence::default(), max_bytes);
        prop_assert!(metadata.text.len() <= max_bytes && metadata.text.is_ascii());
        let read: Vec<_> = decode(position, &metadata.text).unwrap().settled.ranges().collect();
        let written: Vec<_> = whole.ranges().collect();
        prop_assert_eq!(&read[..], &written[..read.len()]);
        prop_assert_eq!(metadata.truncated, read.len() < written.len());
        if metadata.truncated {
            let one_more = encode(position, written[..=read.len()].iter().copied(), &Evidence::default(), usize::MAX);
            // A section's length takes up to two bytes less than what is reserved for it: three
            // characters.
            prop_assert!(one_more.text.len() + 3 > max_bytes, "{} of {max_bytes} used", one_more.text.len());
        }
    }

    #[test]
    fn a_changed_character_is_noticed((position, ranges) in any_map(), at: prop::sample::Index, to in 0_u8..128) {
        prop_assume!(!ranges.is_empty());
        let metadata = encode(position, map(&ranges).ranges(), &Evidence::default(), MAX_METADATA_BYTES);
        let mut bytes = metadata.text.clone().into_bytes();
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != to);
        bytes[at] = to;
        let changed = String::from_utf8(bytes).unwrap();
        prop_assert!(decode(position, &changed).is_err(), "{changed}");
    }

    #[test]
    fn hostile_text_never_panics(position: i64, text in ".*") {
        let _ = decode(Position::new(position), &text);
        let ours = format!("kl1.{text}é");
        prop_assert!(decode(Position::new(position), &ours).is_err());
    }

    #[test]
    fn hostile_sections_give_a_well_formed_map_or_an_error(position: i64, sections in proptest::collection::vec(any::<u8>(), 0..200)) {
        let position = Position::new(position);
        if let Ok(CommitContent { settled: map, .. }) = decode(position, &sealed(position, &sections)) {
            let mut cursor = i128::from(position.get());
            for range in map.ranges() {
                prop_assert!(i128::from(range.first.get()) >= cursor && range.first <= range.last);
                cursor = i128::from(range.last.get()) + 1;
            }
            prop_assert!(map.ranges().count() <= sections.len() * 4);
        }
    }
}

fn naming(alone: bool, offsets: Vec<Offset>) -> Named {
    match offsets.first() {
        None => Named::Nobody,
        Some(&first) if alone => Named::Alone(first),
        Some(_) => Named::Together(offsets),
    }
}

prop_compose! {
    fn any_evidence(position: i64)(
        running in proptest::option::of(any::<u32>()),
        named in proptest::collection::btree_set(0_i64..1_000, 0..=GROUP),
        alone: bool,
        unclean_starts: u32,
        suspects in proptest::collection::btree_map(0_i64..5_000, (0_u32..9, any::<bool>()), 0..=MAX_SUSPECTS),
    ) -> Evidence {
        let offset = |above: i64| Offset::new(position + above);
        Evidence {
            running: running.map(Instance::new),
            named: naming(alone, named.into_iter().map(offset).collect()),
            unclean_starts,
            suspects: suspects
                .into_iter()
                .map(|(at, (crashes, survived))| Suspect { offset: offset(at), crashes, survived })
                .collect(),
        }
    }
}

proptest! {
    #[test]
    fn evidence_comes_back_and_goes_before_the_map(
        (start, ranges) in any_map(),
        evidence in any_evidence(2_000_000_000_000),
        max_bytes in 0_usize..4_200,
    ) {
        let position = Position::new(2_000_000_000_000);
        let shift = position.get() - start.get();
        let ranges: Vec<_> = ranges.iter().map(|&(first, last)| (first + shift, last + shift)).collect();
        let metadata = encode(position, map(&ranges).ranges(), &evidence, max_bytes);
        prop_assert!(metadata.text.len() <= max_bytes);
        let read = decode(position, &metadata.text).unwrap();
        if max_bytes >= 1_200 {
            prop_assert_eq!(&read.evidence, &evidence);
        } else if read.evidence != evidence {
            prop_assert!(metadata.truncated && read.evidence.is_empty());
        }
        let read: Vec<_> = read.settled.ranges().collect();
        let written: Vec<_> = map(&ranges).ranges().collect();
        prop_assert_eq!(&read[..], &written[..read.len()]);
    }

    #[test]
    fn hostile_evidence_is_in_bounds_or_an_error(position: i64, content in proptest::collection::vec(any::<u8>(), 0..120)) {
        let position = Position::new(position);
        let mut sections = vec![EVIDENCE, content.len() as u8];
        sections.extend_from_slice(&content);
        if let Ok(read) = decode(position, &sealed(position, &sections)) {
            let evidence = read.evidence;
            prop_assert!(evidence.suspects.len() <= MAX_SUSPECTS && evidence.named.offsets().len() <= GROUP);
            let named = evidence.named.offsets();
            prop_assert!(named.is_sorted_by(|a, b| a < b) && named.iter().all(|&at| position.covers(at)));
            prop_assert!(evidence.suspects.is_sorted_by(|a, b| a.offset < b.offset));
            prop_assert!(evidence.suspects.iter().all(|suspect| position.covers(suspect.offset)));
            let again = encode(position, [], &evidence, MAX_METADATA_BYTES);
            prop_assert_eq!(decode(position, &again.text).unwrap().evidence, evidence);
        }
    }
}

#[test]
fn the_mark_and_the_map_can_be_taken_out_of_a_text() {
    let position = Position::new(100);
    let evidence = Evidence {
        running: Some(Instance::new(7)),
        named: Named::Together(vec![Offset::new(100), Offset::new(104)]),
        unclean_starts: 2,
        suspects: vec![Suspect {
            offset: Offset::new(100),
            crashes: 1,
            survived: false,
        }],
    };
    let text = encode(
        position,
        map(&[(101, 103)]).ranges(),
        &evidence,
        MAX_METADATA_BYTES,
    )
    .text;
    assert_eq!(text, "kl1.gQMdWAEBTAIIBQcCAgADAAI");
    let ended = decode(position, &without_mark(position, &text, MAX_METADATA_BYTES)).unwrap();
    assert_eq!(
        ended,
        CommitContent {
            settled: map(&[(101, 103)]),
            evidence: evidence.clone().ended(),
            log: None,
            leader_epoch: None
        }
    );
    let short = decode(position, &without_map(position, &text)).unwrap();
    assert_eq!(
        short,
        CommitContent {
            settled: SettledMap::new(),
            evidence,
            log: None,
            leader_epoch: None
        }
    );
}

const LOG_OF_COMMIT: Option<LogId> = LogId::of_topic(0x0102_0304_0506_0708, 0);

#[test]
fn a_log_is_named_in_23_bytes_whatever_else_there_is_to_say() {
    let position = Position::new(100);
    let named = encode_for(
        LOG_OF_COMMIT,
        position,
        [],
        &Evidence::default(),
        MAX_METADATA_BYTES,
    );
    assert_eq!(
        (named.text.as_str(), named.truncated),
        ("kl1.JqpjCQMICAcGBQQDAgE", false)
    );
    let content = CommitContent {
        log: LOG_OF_COMMIT,
        ..CommitContent::default()
    };
    assert_eq!(decode(position, &named.text), Ok(content));

    let ranges: Vec<_> = (0..20_000)
        .map(|index| (101 + index * 2, 101 + index * 2))
        .collect();
    let evidence = Evidence {
        unclean_starts: 3,
        running: Some(Instance::new(u32::MAX)),
        ..Evidence::default()
    };
    for max_bytes in [23, 24, 30, 50, 100, MAX_METADATA_BYTES] {
        let crowded = encode_for(
            LOG_OF_COMMIT,
            position,
            map(&ranges).ranges(),
            &evidence,
            max_bytes,
        );
        assert!(crowded.truncated && crowded.text.len() <= max_bytes);
        assert_eq!(
            decode(position, &crowded.text).unwrap().log,
            LOG_OF_COMMIT,
            "{max_bytes}"
        );
    }
    let too_little = encode_for(LOG_OF_COMMIT, position, [], &Evidence::default(), 22);
    assert_eq!(
        too_little,
        CommitMetadata {
            text: String::new(),
            truncated: true
        }
    );
}

#[test]
fn the_name_of_the_log_stays_where_the_mark_or_the_map_is_taken_out() {
    let position = Position::new(100);
    let evidence = Evidence {
        running: Some(Instance::new(7)),
        ..Evidence::default()
    };
    let text = encode_for(
        LOG_OF_COMMIT,
        position,
        map(&[(101, 103)]).ranges(),
        &evidence,
        MAX_METADATA_BYTES,
    )
    .text;
    for shorter in [
        without_mark(position, &text, MAX_METADATA_BYTES),
        without_map(position, &text),
    ] {
        assert_eq!(decode(position, &shorter).unwrap().log, LOG_OF_COMMIT);
    }
}

#[test]
fn a_name_of_another_length_or_a_second_one_is_refused() {
    let position = Position::new(7);
    let name = [LOG, 8, 1, 2, 3, 4, 5, 6, 7, 8];
    assert!(
        decode(position, &sealed(position, &name))
            .unwrap()
            .log
            .is_some()
    );
    assert_eq!(
        decode(position, &sealed(position, &[name, name].concat())),
        Err(MapError::Damaged),
        "repeated"
    );
    for sections in [
        &[LOG, 0][..],
        &[LOG, 7, 1, 2, 3, 4, 5, 6, 7],
        &[LOG, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    ] {
        assert_eq!(
            decode(position, &sealed(position, sections)),
            Err(MapError::Damaged),
            "{sections:?}"
        );
    }
}

#[test]
fn the_leader_epoch_goes_with_the_ranges_and_never_ranges_without_it() {
    let position = Position::new(100);
    let ranges = map(&[(101, 103), (110, 300)]);
    let about = About {
        log: None,
        leader_epoch: Some(LeaderEpoch::new(300)),
    };
    for max_bytes in 0..60 {
        let text = encode_for(
            about,
            position,
            ranges.ranges(),
            &Evidence::default(),
            max_bytes,
        )
        .text;
        let content = decode(position, &text).expect("it was just written");
        assert_eq!(
            content.leader_epoch,
            about.leader_epoch.filter(|_| !content.settled.is_empty()),
            "{max_bytes}"
        );
    }
    let text = encode_for(
        about,
        position,
        ranges.ranges(),
        &Evidence::default(),
        MAX_METADATA_BYTES,
    )
    .text;
    let ended = decode(position, &without_mark(position, &text, MAX_METADATA_BYTES))
        .expect("it was just written");
    assert_eq!(
        ended,
        CommitContent {
            leader_epoch: about.leader_epoch,
            ..only(ranges)
        }
    );
    assert_eq!(
        encode_for(
            about,
            position,
            [],
            &Evidence::default(),
            MAX_METADATA_BYTES
        )
        .text,
        ""
    );
    for (content, why) in [
        ([1, 0x80].as_slice(), "cut"),
        (&[2, 1, 1], "longer than its length field"),
        (&[5, 255, 255, 255, 255, 31], "too large"),
    ] {
        let mut section = vec![LEADER_EPOCH];
        section.extend_from_slice(content);
        assert_eq!(
            decode(position, &sealed(position, &section)),
            Err(MapError::Damaged),
            "{why}"
        );
    }
}

#[test]
fn a_range_that_fills_the_room_to_its_last_bit_fits() {
    let range = |last| SettledRange {
        first: Offset::new(1),
        last: Offset::new(last),
    };
    // Three bits and five.
    let mut writer = RangeWriter::new(Position::new(0), 1);
    assert!(writer.push(range(4)) && !writer.full);
    let mut writer = RangeWriter::new(Position::new(0), 1);
    assert!(!writer.push(range(8)) && writer.full);
}

/// The length of such a section takes three bytes.
#[test]
fn no_text_is_longer_than_its_limit_where_the_ranges_take_many_bytes() {
    let position = Position::new(0);
    let ranges: Vec<_> = (0..80_000).map(|i| (3 * i + 1, 3 * i + 1)).collect();
    let settled = map(&ranges);
    let mut longest = 0;
    for max_bytes in 30_000..30_020 {
        let metadata = encode(position, settled.ranges(), &Evidence::default(), max_bytes);
        assert!(metadata.truncated, "the ranges fill the room");
        assert!(metadata.text.len() <= max_bytes, "{max_bytes}");
        longest = longest.max(metadata.text.len());
    }
    assert!(longest > 30_000, "{longest}");
}

#[test]
fn a_text_of_the_longest_length_is_read_and_no_longer_one() {
    let position = Position::new(7);
    let of_length = |length: usize| {
        let lengths = length / 4 * 3 - 100..length;
        let texts = lengths.map(|bytes| text(position, &vec![0; bytes], &[]));
        texts
            .filter(|text| text.len() >= length)
            .min_by_key(String::len)
    };
    let longest = of_length(MAX_TEXT_BYTES).expect("there is one");
    assert_eq!(longest.len(), MAX_TEXT_BYTES);
    assert!(payload(position, &longest).is_ok());
    let longer = of_length(MAX_TEXT_BYTES + 1).expect("there is one");
    assert_eq!(payload(position, &longer), Err(MapError::Damaged));
}

#[test]
fn a_text_that_ends_behind_its_checksum_says_nothing_and_a_shorter_one_is_damaged() {
    let position = Position::new(7);
    let of = |bytes: &[u8]| format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
    let checksum = checksum(position, &[]);
    assert_eq!(payload(position, &of(&checksum)), Ok(Vec::new()));
    let shorter = of(&checksum[1..]);
    assert_eq!(payload(position, &shorter), Err(MapError::Damaged));
}
