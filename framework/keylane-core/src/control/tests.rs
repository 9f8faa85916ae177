use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::log_id::LogId;
use crate::offset::{LeaderEpoch, Offset, Position};

fn order(by: &str) -> Order {
    Order {
        by: by.to_owned(),
        ..Order::default()
    }
}

fn until(millis: i64) -> Order {
    Order {
        until_millis: Some(millis),
        ..order("a")
    }
}

/// Of a skip: it names its record.
fn named(order: Order) -> Order {
    Order {
        log: order.log.or(LogId::of_topic(1, 0)),
        leader_epoch: Some(LeaderEpoch::new(3)),
        ..order
    }
}

/// Folds records whose offsets are their places.
fn fold(records: &[(&str, Content)]) -> Directives {
    let mut directives = Directives::default();
    for (offset, (key, content)) in records.iter().enumerate() {
        directives.apply(Offset::new(offset as i64), key, content.clone());
    }
    directives
}

fn paused_by(directives: &Directives, partition: i32, now: i64) -> Option<String> {
    let pause = directives.pause_of("t", partition, now);
    pause.map(|(scope, order)| format!("{scope} by {}", order.by))
}

#[test]
fn the_widest_pause_that_is_in_force_is_shown() {
    let mut records = vec![
        ("pause/t/1", Content::Order(order("partition"))),
        ("pause/t", Content::Order(until(10))),
    ];
    let directives = fold(&records);
    assert_eq!(paused_by(&directives, 1, 9).unwrap(), "topic t by a");
    assert_eq!(
        paused_by(&directives, 1, 10).unwrap(),
        "partition t/1 by partition",
        "the wider one has ended"
    );
    assert_eq!(paused_by(&directives, 0, 10), None);
    records.push(("pause", Content::Order(order("all"))));
    assert_eq!(
        paused_by(&fold(&records), 7, 10).unwrap(),
        "subscription by all"
    );
    records.push(("pause", Content::Nothing));
    assert_eq!(paused_by(&fold(&records), 7, 10), None);
}

#[test]
fn the_next_end_of_an_order_is_ahead() {
    let directives = fold(&[
        ("pause/t", Content::Order(until(10))),
        ("pause-key/t/00000000000000ff", Content::Order(until(30))),
        ("skip/t/0/4", Content::Order(named(until(20)))),
        ("pause", Content::Order(order("for good"))),
    ]);
    let next = [0, 10, 20, 30].map(|now| directives.next_deadline(now));
    assert_eq!(next, [Some(10), Some(20), Some(30), None]);
    let keys = |now| directives.paused_keys("t", now).map(|(hash, _)| hash);
    assert_eq!(keys(29).collect::<Vec<_>>(), [255]);
    assert_eq!(keys(30).count(), 0);
    assert_eq!(directives.paused_keys("u", 0).count(), 0);
}

#[test]
fn what_cannot_be_read_is_refused_and_what_held_before_holds_on() {
    let mut records = vec![("pause/t", Content::Order(order("ann")))];
    for content in [Content::Newer(2), Content::Invalid("no JSON".to_owned())] {
        records.push(("pause/t", content));
        let directives = fold(&records);
        assert_eq!(paused_by(&directives, 0, 0).unwrap(), "topic t by ann");
        assert_eq!(directives.refused().count(), 1);
    }
    records.push(("pause/t", Content::Order(order("bob"))));
    let directives = fold(&records);
    assert_eq!(paused_by(&directives, 0, 0).unwrap(), "topic t by bob");
    assert_eq!(directives.refused().count(), 0);
    records.push(("pause/u", Content::Newer(3)));
    records.push(("pause/u", Content::Nothing));
    assert_eq!(fold(&records).refused().count(), 0, "it was taken back");
}

#[test]
fn an_acknowledgement_is_no_new_revision_and_an_unknown_key_is() {
    let mut directives = Directives::default();
    let content = || Content::Order(order("a"));
    let applied = directives.apply(Offset::new(4), "pause", content());
    assert_eq!(
        (applied, directives.revision()),
        (Applied::Taken, Position::new(5))
    );
    let applied = directives.apply(Offset::new(5), "ack/one", content());
    assert_eq!(
        (applied, directives.revision()),
        (Applied::Other, Position::new(5))
    );
    let applied = directives.apply(Offset::new(6), "pace/t", content());
    assert_eq!(
        (applied, directives.revision()),
        (Applied::UnknownKey, Position::new(7))
    );
    let applied = directives.apply(Offset::new(7), "settings/rate", content());
    assert_eq!(
        (applied, directives.revision()),
        (Applied::Other, Position::new(8))
    );
}

#[test]
fn a_skip_is_void_for_another_log_and_done_when_the_commit_is_behind_it() {
    let [old, new] = [1, 2].map(|it| LogId::of_topic(it, 0));
    let skip = Order {
        log: old,
        ..named(order("a"))
    };
    let mut directives = Directives::without_log_ids();
    let of_any_log = Order {
        log: None,
        ..skip.clone()
    };
    for (key, order) in [("skip/t/0/7", skip), ("skip/t/1/7", of_any_log)] {
        let applied = directives.apply(Offset::new(0), key, Content::Order(order));
        assert_eq!(applied, Applied::Taken);
    }
    let skips = |log| {
        let skips = directives.skips("t", 0, log, 0);
        skips.map(|(offset, _)| offset.get()).collect::<Vec<_>>()
    };
    assert_eq!(skips(old), [7]);
    assert_eq!(skips(new), [0_i64; 0]);
    assert_eq!(skips(None), [0_i64; 0], "its log is not known");
    assert_eq!(directives.skips("t", 1, None, 0).count(), 1);

    let done = |log, position| {
        let committed = |_: &str, partition| (partition == 0).then_some((log, position));
        directives.done_skips(committed, |_, _| false).len()
    };
    assert_eq!(done(old, Position::new(7)), 0);
    assert_eq!(done(old, Position::new(8)), 1);
    assert_eq!(
        done(new, Position::new(8)),
        0,
        "the commit is of another log, and the order may be of a newer one"
    );
    let gone = |there| directives.done_skips(|_, _| None, |_, log| Some(log) != there);
    assert_eq!(gone(old).len(), 0);
    let ends: Vec<_> = gone(new).into_iter().map(|(_, end)| end).collect();
    assert_eq!(ends, [SkipEnd::LogGone]);
    let waits = [0, 1].map(|partition| directives.needs_log("t", partition, 0));
    assert_eq!(waits, [Some(Offset::new(7)), None]);
}

/// Another record may take the offset: after a cut, or in a topic that was re-created.
#[test]
fn a_skip_that_does_not_name_its_record_is_refused_and_takes_the_place_of_one_that_did() {
    let whole = named(order("a"));
    let without_log = Order {
        log: None,
        ..whole.clone()
    };
    let without_epoch = Order {
        leader_epoch: None,
        ..whole.clone()
    };
    let vague = Applied::Refused(Refusal::Vague);
    let of_both = |mut directives: Directives| {
        [&without_log, &without_epoch].map(|order| {
            let mut apply = |order: &Order| {
                let content = Content::Order(order.clone());
                directives.apply(Offset::new(0), "skip/t/0/7", content)
            };
            assert_eq!(apply(&whole), Applied::Taken);
            let applied = apply(order);
            let skips = directives.skips("t", 0, whole.log, 0).count();
            let is_refused = applied == vague;
            assert!(is_refused || applied == Applied::Taken, "{applied:?}");
            assert_eq!(directives.refused().count(), usize::from(is_refused));
            (is_refused, skips)
        })
    };
    assert_eq!(of_both(Directives::default()), [(true, 0), (true, 0)]);
    let without_ids = Directives::without_log_ids();
    assert_eq!(of_both(without_ids), [(false, 1), (true, 0)]);
    let pause = fold(&[("pause/t", Content::Order(order("a")))]);
    assert_eq!(pause.refused().count(), 0, "it is about no record");
}

#[test]
fn a_pause_that_cannot_be_read_holds_as_one_also_without_what_held_before() {
    let newer = || Content::Newer(2);
    let invalid = || Content::Invalid("no JSON".to_owned());
    // What compaction leaves of the orders of the test above.
    let directives = fold(&[("pause/t", newer())]);
    assert_eq!(paused_by(&directives, 0, 0).unwrap(), "topic t by ");
    let directives = fold(&[("pause", invalid()), ("pause", Content::Nothing)]);
    assert_eq!(paused_by(&directives, 0, 0), None, "it was taken back");
    let ended = [("pause/t", Content::Order(until(10))), ("pause/t", newer())];
    assert!(paused_by(&fold(&ended), 0, 10).is_some(), "with its end");
    let key = [("pause-key/t/0000000000000007", invalid())];
    assert_eq!(fold(&key).of("t", 0, None, 0).paused_keys, [7].into());
    let skip = [("skip/t/0/7", newer())];
    assert!(fold(&skip).of("t", 0, None, 0).skips.is_empty());
}

#[test]
fn a_partition_gets_what_is_in_force_for_its_log_and_with_it_who_ordered_it() {
    let log = LogId::of_topic(1, 0);
    let skip = Order {
        why: "damaged".to_owned(),
        log,
        ..named(order("ann"))
    };
    let directives = fold(&[
        ("pause-key/t/0000000000000007", Content::Order(until(10))),
        ("pause-key/u/0000000000000008", Content::Order(order("b"))),
        ("skip/t/0/4", Content::Order(skip)),
        ("skip/t/1/5", Content::Order(named(order("b")))),
    ]);
    let of = directives.of("t", 0, log, 9);
    assert_eq!(of.paused_keys, [7].into());
    let skip = &of.skips[&Offset::new(4)];
    assert_eq!(
        (&*skip.note.by, &*skip.note.why, of.skips.len()),
        ("ann", "damaged", 1)
    );
    assert_eq!(skip.under, Some(LeaderEpoch::new(3)));
    let later = directives.of("t", 0, LogId::of_topic(2, 0), 10);
    assert_eq!(later, crate::partition::PartitionDirectives::default());
}

#[test]
fn more_than_the_limit_is_refused_and_what_is_there_can_still_change() {
    let mut directives = Directives::default();
    for number in 0..MOST_ENTRIES as i64 {
        let key = format!("skip/t/0/{number}");
        let order = Content::Order(named(order("a")));
        let applied = directives.apply(Offset::new(number), &key, order);
        assert_eq!(applied, Applied::Taken);
    }
    let order = |by: &str| Content::Order(named(order(by)));
    let too_many = Applied::Refused(Refusal::TooMany);
    let mut apply = |key: &str, content| directives.apply(Offset::new(20_000), key, content);
    assert_eq!(apply("skip/t/1/3", order("b")), too_many);
    assert_eq!(apply("pause-key/t/0000000000000007", order("b")), too_many);
    assert_eq!(apply("pause", order("b")), Applied::Taken, "it has its own");
    assert_eq!(apply("skip/t/0/3", order("b")), Applied::Taken);
    assert!(!directives.is_to_be_folded_again());
    let applied = directives.apply(Offset::new(20_001), "skip/t/0/3", Content::Nothing);
    assert_eq!(applied, Applied::Taken);
    assert!(
        directives.is_to_be_folded_again(),
        "what was left out has room"
    );
    assert_eq!(directives.left_out(), 2);
    assert_eq!(directives.orders().count(), MOST_ENTRIES);
}

#[test]
fn where_there_are_too_many_pauses_everything_is_paused() {
    let mut directives = Directives::default();
    for number in 0..=MOST_ENTRIES as i64 {
        let key = format!("pause/u/{number}");
        directives.apply(Offset::new(number), &key, Content::Order(order("a")));
    }
    assert!(directives.pause_of("t", 0, 0).is_some());
    let mut directives = Directives::default();
    for number in 0..=MOST_ENTRIES as i64 {
        let key = format!("pause/u/{number}");
        directives.apply(Offset::new(number), &key, Content::Newer(2));
    }
    assert!(directives.pause_of("t", 0, 0).is_some());
}

#[test]
fn acknowledgements_of_members_that_are_gone_do_not_count() {
    let ack = |revision, member: Option<&str>, at_millis| Ack {
        revision: Position::new(revision),
        member: member.map(str::to_owned),
        group: None,
        host: String::new(),
        at_millis,
        refused: 0,
    };
    let mut acks = Acks::default();
    acks.apply("one", Some(ack(9, Some("id-1"), 1)));
    acks.apply("two", Some(ack(7, Some("id-2"), 2)));
    acks.apply("killed", Some(ack(9, Some("id-0"), 3)));
    acks.apply("left", Some(ack(9, Some("id-4"), 4)));
    acks.apply("left", None);
    let live = ["id-1", "id-2", "id-3"].map(str::to_owned).into();
    let tally = acks.tally(Position::new(8), Some(&live), 0);
    let names = |set: &std::collections::BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>();
    assert_eq!(names(&tally.applied), ["one"]);
    assert_eq!(names(&tally.behind), ["two"]);
    assert_eq!(names(&tally.stale), ["killed"]);
    assert_eq!(tally.silent, 1);
    let tally = acks.tally(Position::new(8), None, 3);
    assert_eq!((tally.applied.len(), tally.silent), (2, 0));
    let tally = acks.tally(Position::new(8), None, 2 + FRESH_FOR.as_millis() as i64);
    assert_eq!(
        names(&tally.applied),
        ["killed"],
        "it would have written again"
    );
    assert_eq!(names(&tally.stale), ["one", "two"]);
    let refuses = Ack {
        refused: 1,
        ..ack(9, Some("id-3"), 5)
    };
    acks.apply("old", Some(refuses));
    let tally = acks.tally(Position::new(8), Some(&live), 0);
    assert_eq!((names(&tally.applied).len(), tally.silent), (1, 0));
    assert_eq!(
        names(&tally.refusing),
        ["old"],
        "it has read it, and runs it not"
    );
    acks.apply("old", None);

    for number in 0..MOST_ACKS as i64 {
        acks.apply(&number.to_string(), Some(ack(9, None, 10 + number)));
    }
    assert_eq!(acks.iter().count(), MOST_ACKS);
    assert!(
        acks.iter().all(|(name, _)| name != "one"),
        "the oldest make room"
    );
}

#[test]
fn one_member_takes_out_what_members_of_its_group_have_not_written_for_a_day() {
    let day = GONE_AFTER.as_millis() as i64;
    let ack = |group: Option<&str>, at_millis| Ack {
        revision: Position::new(1),
        member: None,
        group: group.map(str::to_owned),
        host: String::new(),
        at_millis,
        refused: 0,
    };
    let mut acks = Acks::default();
    for (name, group, at_millis) in [
        ("a-killed", Some("g"), 5),
        ("b", Some("g"), day),
        ("c", Some("g"), day - 1),
        ("d-foreign", Some("h"), 5),
        ("e-unsaid", None, 5),
        ("z-ahead", Some("g"), 9 * day),
    ] {
        acks.apply(name, Some(ack(group, at_millis)));
    }
    let gone = |own: &str, now| acks.gone(own, "g", now).collect::<Vec<_>>();
    assert_eq!(gone("b", day + 4), [""; 0], "it is not that old yet");
    assert_eq!(gone("b", day + 5), ["a-killed"]);
    assert_eq!(gone("c", day + 5), [""; 0], "another one does that");
    assert_eq!(gone("unheard", day + 5), [""; 0]);
}

fn a_key() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("pause".to_owned()),
        Just("pause/t".to_owned()),
        (0..3).prop_map(|partition| format!("pause/t/{partition}")),
        (0..3_u64).prop_map(|hash| format!("pause-key/t/{hash:016x}")),
        (0..3, 0..4).prop_map(|(partition, offset)| format!("skip/t/{partition}/{offset}")),
        Just("pace/t".to_owned()),
        Just("ack/one".to_owned()),
    ]
}

fn a_content() -> impl Strategy<Value = Content> {
    prop_oneof![
        1 => Just(Content::Nothing),
        1 => prop_oneof![Just(Content::Newer(2)), Just(Content::Invalid("no JSON".to_owned()))],
        3 => (0..5_u8, proptest::option::of(0..50_i64), 0..3_u64, 0..3_u32).prop_map(
            |(by, until_millis, log, epoch)| {
                Content::Order(Order {
                    until_millis,
                    // 0 for none.
                    log: LogId::of_topic(log, 0),
                    leader_epoch: Some(LeaderEpoch::new(epoch)).filter(|it| it.get() > 0),
                    ..order(&by.to_string())
                })
            }
        ),
    ]
}

proptest! {
    /// A broker may compact up to any record, at any time: of each key, the last record stays, and
    /// a tombstone not for ever.
    #[test]
    fn the_compacted_log_says_the_same_as_the_whole_one(
        records in proptest::collection::vec((a_key(), a_content()), 0..60),
        compacted_to in 0..60_usize,
        keeps_tombstones in any::<bool>(),
        now in 0..60_i64,
    ) {
        let compacted_to = compacted_to.min(records.len());
        let (mut whole, mut compacted) = (Directives::default(), Directives::default());
        for (offset, (key, content)) in records.iter().enumerate() {
            let at = Offset::new(offset as i64);
            whole.apply(at, key, content.clone());
            let is_last = records[offset + 1..].iter().all(|(other, _)| other != key);
            let stays = keeps_tombstones || *content != Content::Nothing;
            if offset >= compacted_to || is_last && stays {
                compacted.apply(at, key, content.clone());
            }
        }
        let all_read = records.iter().all(|(_, content)| {
            !matches!(content, Content::Newer(_) | Content::Invalid(_))
        });
        if all_read && keeps_tombstones {
            prop_assert_eq!(&whole, &compacted);
        }
        // What cannot be read may lose who ordered it, and an end, but no pause.
        let keys = |directives: &Directives| {
            directives.paused_keys("t", now).map(|(hash, _)| hash).collect::<BTreeSet<_>>()
        };
        prop_assert_eq!(keys(&whole), keys(&compacted));
        for partition in 0..3 {
            prop_assert_eq!(
                whole.pause_of("t", partition, now).is_some(),
                compacted.pause_of("t", partition, now).is_some()
            );
        }
    }

    /// The last record of a key counts, and what has ended by itself does not.
    #[test]
    fn a_partition_is_paused_as_a_simple_model_says(
        records in proptest::collection::vec((a_key(), a_content()), 0..60),
        now in 0..60_i64,
    ) {
        let mut last = BTreeMap::new();
        let mut directives = Directives::default();
        for (offset, (key, content)) in records.iter().enumerate() {
            directives.apply(Offset::new(offset as i64), key, content.clone());
            last.insert(key.clone(), content.clone());
        }
        let holds = |key: &str| match last.get(key) {
            Some(Content::Order(order)) => order.until_millis.is_none_or(|until| now < until),
            Some(Content::Newer(_) | Content::Invalid(_)) => true,
            _ => false,
        };
        for partition in 0..3 {
            let expected = ["pause", "pause/t", &format!("pause/t/{partition}")];
            prop_assert_eq!(
                directives.pause_of("t", partition, now).is_some(),
                expected.into_iter().any(holds)
            );
        }
        for hash in 0..3_u64 {
            prop_assert_eq!(
                directives.paused_keys("t", now).any(|(it, _)| it == hash),
                holds(&format!("pause-key/t/{hash:016x}"))
            );
        }
    }

    #[test]
    fn a_key_has_one_form(key in a_parsed_key(), change in 0..40_usize, with in "[0a/ +-]") {
        let text = key.to_string();
        prop_assert_eq!(ControlKey::parse(&text), Some(key));
        let mut changed = text;
        changed.insert_str(change.min(changed.len()), &with);
        if let Some(key) = ControlKey::parse(&changed) {
            prop_assert_eq!(key.to_string(), changed);
        }
    }
}

fn a_parsed_key() -> impl Strategy<Value = ControlKey> {
    let topic = || "[a-z.-]{1,5}[a-z]";
    let (partition, offset) = (|| 0..=i32::MAX, 0..=i64::MAX);
    prop_oneof![
        Just(ControlKey::Pause(PauseScope::Subscription)),
        topic().prop_map(|topic| ControlKey::Pause(PauseScope::Topic(topic))),
        (topic(), partition())
            .prop_map(|(topic, it)| ControlKey::Pause(PauseScope::Partition(topic, it))),
        (topic(), any::<u64>())
            .prop_map(|(topic, key_hash)| ControlKey::PauseKey { topic, key_hash }),
        (topic(), partition(), offset).prop_map(|(topic, partition, offset)| {
            let offset = Offset::new(offset);
            ControlKey::Skip {
                topic,
                partition,
                offset,
            }
        }),
        "[a-z/]{1,9}".prop_map(ControlKey::Ack),
    ]
}
