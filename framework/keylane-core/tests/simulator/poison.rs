//! Records that kill their process: processes own a few partitions, and the evidence in their
//! commits has to find the killers and blame nobody else.
//!
//! Commits, marks and the last commit are the member's, as they ship. Modelled is the rest that the
//! shell guarantees (`poison/process.rs`), and the client. Everything else is random, above all how
//! much of what was sent arrives before a crash, and who takes over.
//!
//! Seen to fail, each put in by hand: starts without a mark, a verdict after one crash, no net, no
//! trials, a record that survived and is condemned like the others, no time for others between two
//! trials, no net between them, and nothing that starts while a suspect waits for its trial. Of
//! operators' acts (`poison/acts.rs`): a resumed key that does not go on, and a skip that leaves its
//! record ready.

mod acts;
mod process;
mod subscription;
mod world;

use keylane_core::GROUP;

use crate::random::Random;
use world::{Chances, Size, World};

const RUNS: u64 = 1_000;

/// A mistake of the shell, to prove that the simulator notices.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Fault {
    #[default]
    None,
    /// An epoch that does not know what is committed starts all the same.
    StartsUnknowing,
    /// A mark counts as confirmed when it is sent.
    StartsBeforeTheAnswer,
    /// A trial is over before the name is taken back.
    LeavesNames,
    /// A trial keeps nothing of other partitions from running.
    TriesBesideOthers,
    /// A trial keeps nothing of other subscriptions of the process from running.
    TriesBesideOtherSubscriptions,
    /// An answer confirms a mark by the partition's number, whatever epoch it was sent for.
    ConfirmsMarksOfOtherEpochs,
    /// The answer to any commit confirms the mark that is waited for.
    TakesAnyAnswerForItsOwn,
    /// A trial is requested as soon as there is a suspect for it, whether the partition wants it or
    /// not.
    TriesAgainAtOnce,
    /// An epoch begins without what is directed for its log.
    LeavesANewOwnerWithoutDirectives,
    /// The epoch that follows when it is known what is committed has nothing of what was ordered of
    /// the one before.
    ForgetsOwnOrders,
}

fn many(run: impl FnMut(&mut Random)) {
    for_runs(RUNS, run);
}

fn for_runs(runs: u64, mut run: impl FnMut(&mut Random)) {
    crate::for_each_seed(runs, |seed| {
        // On a failure the test's output ends with its seed.
        println!("seed {seed}");
        run(&mut Random::new(seed));
    });
}

fn seeded(random: &mut Random) -> Random {
    Random::new(random.next())
}

/// One process at a time, and all records there from the beginning.
fn one_member(partitions: usize, most_records: u64, killers: usize) -> Size {
    Size {
        members: 1,
        subscriptions: 1,
        partitions,
        most_records,
        killers,
    }
}

#[test]
fn a_killer_is_out_of_the_way_by_the_fifth_start_and_nobody_else_is_blamed() {
    let mut most = 0;
    many(|random| {
        let size = Size {
            subscriptions: 1 + random.index(2),
            ..one_member(1 + random.index(4), 40, 1)
        };
        let mut world = World::new(seeded(random), &size, Chances::default());
        world.run();
        assert_eq!(world.blamed(), world.killers());
        assert!(world.starts <= 5, "{} starts", world.starts);
        most = most.max(world.starts);
    });
    assert_eq!(
        most, 5,
        "sooner would be a mistake too: two crashes have to name it"
    );
}

/// An epoch whose evidence is not known must not overwrite it.
#[test]
fn a_coordinator_that_does_not_answer_at_once_hides_no_killer() {
    many(|random| {
        let size = one_member(1 + random.index(4), 40, 1);
        let chances = Chances {
            silent: 50,
            ..Chances::default()
        };
        let mut world = World::new(seeded(random), &size, chances);
        world.run();
        assert_eq!(world.blamed(), world.killers());
        assert!(world.starts <= 5, "{} starts", world.starts);
    });
}

/// One of the first runs notices that the shell is at fault, and says so in these words.
fn caught(chances: impl Fn() -> Chances, size: &Size, words: &str) {
    let mut others = Vec::new();
    for seed in 0..200 {
        let run = std::panic::AssertUnwindSafe(|| {
            let chances = chances();
            let mut world = World::new(Random::new(seed), size, chances);
            world.run();
            let most_starts = match world.chances.fault {
                Fault::StartsUnknowing | Fault::StartsBeforeTheAnswer => 5,
                _ => u32::MAX,
            };
            assert!(world.starts <= most_starts, "{} starts", world.starts);
            let (blamed, killers) = (world.blamed(), world.killers());
            assert_eq!(blamed, killers, "not those that kill are blamed");
        });
        let Err(broken) = std::panic::catch_unwind(run) else {
            continue;
        };
        let text = broken.downcast_ref::<String>().cloned();
        let text = text.unwrap_or_else(|| "a panic without words".to_owned());
        if text.contains(words) {
            return;
        }
        others.push(text);
    }
    panic!("it is not noticed as {words}, only as {others:#?}");
}

#[test]
fn a_start_without_evidence_is_noticed() {
    let chances = || Chances {
        silent: 50,
        fault: Fault::StartsUnknowing,
        ..Chances::default()
    };
    caught(chances, &one_member(3, 40, 1), "6 starts");
}

/// So the first mark of every epoch is awaited: a killer among the first records may strike before.
#[test]
fn a_start_before_its_mark_is_on_the_broker_is_noticed() {
    let chances = || Chances {
        fault: Fault::StartsBeforeTheAnswer,
        ..Chances::default()
    };
    caught(chances, &one_member(3, 40, 1), "6 starts");
}

/// The other subscription's commits do not wait for the one that takes it back.
#[test]
fn a_name_that_is_left_on_the_broker_after_a_trial_is_noticed() {
    let chances = || Chances {
        refused: 80,
        fault: Fault::LeavesNames,
        ..Chances::default()
    };
    let size = Size {
        subscriptions: 2,
        ..one_member(2, 10, 4)
    };
    caught(chances, &size, "not those that kill are blamed");
}

/// Each time a killer strikes in its trial, the same neighbour is in a trial of its own.
#[test]
fn trials_that_run_beside_each_other_are_noticed() {
    let chances = || Chances {
        fault: Fault::TriesBesideOthers,
        ..Chances::default()
    };
    caught(
        chances,
        &one_member(4, 40, 1),
        "not those that kill are blamed",
    );
}

/// So trials are of the process and not of the subscription.
#[test]
fn trials_of_two_subscriptions_that_run_beside_each_other_are_noticed() {
    let chances = || Chances {
        fault: Fault::TriesBesideOtherSubscriptions,
        ..Chances::default()
    };
    let size = Size {
        subscriptions: 2,
        ..one_member(4, 40, 1)
    };
    caught(chances, &size, "not those that kill are blamed");
}

#[test]
fn trials_of_a_partition_that_leave_others_no_time_are_noticed() {
    let chances = || Chances {
        fault: Fault::TriesAgainAtOnce,
        ..Chances::default()
    };
    caught(chances, &one_member(3, 40, 1), "others have had");
}

#[test]
fn a_mark_confirmed_by_the_answer_to_another_epoch_is_noticed() {
    let chances = || Chances {
        unlucky: 30,
        unlucky_left: 30,
        moves: 20,
        late: 98,
        fault: Fault::ConfirmsMarksOfOtherEpochs,
        ..Chances::default()
    };
    let size = Size {
        members: 2,
        ..one_member(2, 40, 0)
    };
    caught(chances, &size, "started; the broker has");
}

#[test]
fn a_mark_confirmed_by_the_answer_to_another_commit_is_noticed() {
    let chances = || Chances {
        fault: Fault::TakesAnyAnswerForItsOwn,
        ..Chances::default()
    };
    caught(chances, &one_member(3, 40, 1), "started; the broker has");
}

fn caught_in_acts(silent: u64, fault: Fault) {
    let chances = || Chances {
        acts: 100,
        acts_left: 60,
        silent,
        unlucky: 10,
        unlucky_left: 4,
        fault,
        ..Chances::default()
    };
    caught(chances, &one_member(2, 40, 0), "G12");
}

#[test]
fn an_epoch_that_begins_without_what_is_directed_is_noticed() {
    caught_in_acts(0, Fault::LeavesANewOwnerWithoutDirectives);
}

#[test]
fn an_epoch_that_forgets_what_was_ordered_before_its_position_was_known_is_noticed() {
    caught_in_acts(90, Fault::ForgetsOwnOrders);
}

#[test]
fn several_killers_are_found_one_after_the_other_and_nobody_else_is_blamed() {
    many(|random| {
        let killers = 2 + random.index(2);
        let size = Size {
            subscriptions: 1 + random.index(2),
            ..one_member(1 + random.index(4), 30, killers)
        };
        let mut world = World::new(seeded(random), &size, Chances::default());
        world.run();
        assert_eq!(world.blamed(), world.killers());
        assert!(
            world.starts <= 5 * killers as u32,
            "{} starts for {killers}",
            world.starts
        );
    });
}

/// Those whose answers are waited for are sent again, and what nobody waits for can only lose a map.
#[test]
fn refused_commits_hide_no_killer_and_blame_nobody() {
    for_runs(300, |random| {
        let size = one_member(1 + random.index(4), 40, 1);
        let chances = Chances {
            refused: 10 + random.below(60),
            ..Chances::default()
        };
        let mut world = World::new(seeded(random), &size, chances);
        world.run();
        assert_eq!(world.blamed(), world.killers());
        assert!(world.starts <= 5, "{} starts", world.starts);
    });
}

fn with_acts(random: &mut Random) -> Chances {
    Chances {
        acts: 20 + random.below(200),
        acts_left: 2 + random.below(60) as u32,
        silent: random.pick(&[0, 0, 50]),
        failing: random.pick(&[0, 0, 200]),
        ..Chances::default()
    }
}

/// No order hides a killer for good, and none makes a neighbour one. A paused key is not watched:
/// others make progress, and the care for a killer that is not suspected yet ends. So each pause may
/// cost one more start.
#[test]
fn operators_who_pause_skip_and_give_up_records_hide_no_killer_and_none_of_theirs_starts() {
    for_runs(60, |random| {
        let killers = random.index(4);
        let size = Size {
            subscriptions: 1 + random.index(2),
            ..one_member(1 + random.index(4), 30, killers)
        };
        let chances = with_acts(random);
        let most_starts = match chances.failing {
            0 => 5,
            _ => 10,
        };
        let mut world = World::new(seeded(random), &size, chances);
        world.run();
        expect_right_blame(&world);
        assert!(
            world.starts <= 1.max(most_starts * killers as u32 + world.pauses),
            "{} starts for {killers}, with {} pauses",
            world.starts,
            world.pauses
        );
    });
}

#[test]
fn orders_hold_where_partitions_move_and_processes_are_killed_by_nobody() {
    for_runs(30, |random| {
        let size = Size {
            members: 2,
            subscriptions: 1 + random.index(2),
            partitions: 1 + random.index(4),
            most_records: 30,
            killers: random.index(3),
        };
        let chances = Chances {
            moves: random.below(10),
            orderly: random.below(3),
            refused: random.below(30),
            ..with_acts(random)
        };
        let mut world = World::new(seeded(random), &size, chances);
        world.run();
        expect_right_blame(&world);
    });
}

/// Killers alone are blamed, and each that no operator has given up before.
fn expect_right_blame(world: &World) {
    let (blamed, killers) = (world.blamed(), world.killers());
    let is_killer = |it: &(usize, i64)| killers.contains(it);
    assert!(blamed.iter().all(is_killer), "{blamed:?} of {killers:?}");
    let mut left_alone = world.killers_left_alone().into_iter();
    let missing = left_alone.find(|it| !blamed.contains(it));
    assert_eq!(missing, None, "{blamed:?} of {killers:?}");
}

/// What an ACL forbids may last for days.
#[test]
fn a_topic_whose_commits_are_refused_for_a_while_hides_no_killer_of_another() {
    for_runs(300, |random| {
        let size = one_member(2 + random.index(3), 30, 1);
        let chances = Chances {
            forbids: 5,
            ..Chances::default()
        };
        let mut world = World::new(seeded(random), &size, chances);
        world.run();
        assert_eq!(world.blamed(), world.killers());
    });
}

/// The owner of a partition that is given back may be blocked by a processor: its mark is taken
/// back for it.
#[test]
fn a_blocked_owner_that_is_given_up_looks_like_no_crash() {
    for_runs(300, |random| {
        let size = Size {
            members: 2,
            ..one_member(1 + random.index(3), 20, 0)
        };
        let chances = Chances {
            moves: 5,
            blocked: 50,
            refused: 20,
            ..Chances::default()
        };
        let mut world = World::new(seeded(random), &size, chances);
        world.run();
        assert_eq!((world.blamed(), world.most_unclean_starts), (vec![], 0));
    });
}

/// It is named alone at four crashes where it was seen to fail alone; more often where it failed so
/// many times in a row that it passed for harmless.
#[test]
fn a_killer_that_fails_before_it_kills_is_found_too_and_nobody_else_is_blamed() {
    let mut starts = Vec::new();
    many(|random| {
        let size = one_member(1 + random.index(4), 20, 1);
        let chances = Chances {
            failing: 100 + random.below(400),
            ..Chances::default()
        };
        let mut world = World::new(seeded(random), &size, chances);
        world.run();
        assert_eq!(world.blamed(), world.killers());
        starts.push(world.starts);
    });
    starts.sort_unstable();
    let nearly_all = starts[starts.len() * 9 / 10];
    assert!((6..=8).contains(&nearly_all), "{nearly_all} starts");
}

#[test]
fn orderly_ends_at_any_moment_neither_hide_a_killer_nor_blame_anybody() {
    many(|random| {
        let size = one_member(1 + random.index(3), 20, 1);
        let mut world = World::new(
            seeded(random),
            &size,
            Chances {
                orderly: 2,
                ..Chances::default()
            },
        );
        world.run();
        assert_eq!(world.blamed(), world.killers());
    });
}

#[test]
fn two_unlucky_kills_blame_nobody() {
    many(|random| {
        let size = Size {
            subscriptions: 1 + random.index(2),
            ..one_member(1 + random.index(4), 40, 0)
        };
        let (unlucky, orderly) = (5 + random.below(50), random.below(3));
        let chances = Chances {
            unlucky,
            unlucky_left: 2,
            orderly,
            ..Chances::default()
        };
        let mut world = World::new(seeded(random), &size, chances);
        world.run();
        assert_eq!(world.blamed(), []);
    });
}

/// The price of care for nothing: commits that are waited for.
#[test]
fn after_two_unlucky_kills_few_records_run_alone_and_the_others_cost_a_mark_for_many() {
    const RECORDS: usize = 2_000;
    for_runs(50, |random| {
        let mut world = World::wide(seeded(random), RECORDS);
        for _ in 0..2 {
            world.go_on(200);
            world.kill();
        }
        world.run();
        assert_eq!((world.starts, world.blamed()), (3, vec![]));
        // Two marks for each suspect, and one for half a group of the others at least.
        let most = 2 * GROUP + RECORDS / (GROUP / 2) + 20;
        assert!(
            (RECORDS / GROUP..=most).contains(&world.marks()),
            "{} marks",
            world.marks()
        );
    });
}

#[test]
fn one_unlucky_kill_beside_a_killer_blames_nobody_else() {
    many(|random| {
        let size = Size {
            subscriptions: 1 + random.index(2),
            ..one_member(1 + random.index(4), 30, 1)
        };
        let chances = Chances {
            unlucky: 5 + random.below(20),
            unlucky_left: 1,
            ..Chances::default()
        };
        let mut world = World::new(seeded(random), &size, chances);
        world.run();
        assert_eq!(world.blamed(), world.killers());
    });
}

/// The crash moves the partition to another member, which dies too.
#[test]
fn killers_that_go_from_member_to_member_end_in_few_deaths_and_nobody_else_is_blamed() {
    for_runs(100, |random| {
        let (members, partitions) = (2 + random.index(3), 2 + random.index(5));
        let size = Size {
            members,
            subscriptions: 1 + random.index(2),
            partitions,
            most_records: 20,
            killers: 1 + random.index(6),
        };
        let mut world = World::new(
            seeded(random),
            &size,
            Chances {
                moves: random.below(5),
                ..Chances::default()
            },
        );
        world.run();
        expect_few_deaths(&world);
    });
}

/// Killers come to partitions that have not crashed yet, while others are in isolation.
#[test]
fn killers_in_healthy_partitions_cast_no_blame_on_suspects_elsewhere() {
    for_runs(300, |random| {
        let size = Size {
            members: 2,
            subscriptions: 1 + random.index(2),
            partitions: 6,
            most_records: 30,
            killers: 6,
        };
        let mut world = World::new(
            seeded(random),
            &size,
            Chances {
                writes: 30,
                ..Chances::default()
            },
        );
        world.run();
        expect_few_deaths(&world);
    });
}

/// However they meet: four for each at most, as for one that is by itself.
fn expect_few_deaths(world: &World) {
    let killers = world.killers();
    assert_eq!(world.blamed(), killers);
    assert!(
        world.deaths <= 4 * killers.len() as u32,
        "{} deaths of {}",
        world.deaths,
        killers.len()
    );
}
