//! G9: a panic in one of keylane's own threads ends the subscription with an error, and the process
//! does not hang.

use super::history::{End, History, Life};
use crate::{
    clock::{Nanos, nanos},
    group::ENDS_AFTER_A_PANIC,
    planted::Planted,
};

/// What was found.
#[derive(Debug, Default)]
pub struct Panics {
    /// Panics that went off, by the thread.
    pub by_thread: Vec<(Planted, usize)>,
    /// Processes that did not end after one.
    pub hung: Vec<String>,
    /// Subscriptions that ended without saying so.
    pub untold: Vec<String>,
}

/// Looks at every process.
pub fn check(history: &History) -> Panics {
    let mut found = Panics::default();
    for place in Planted::ALL {
        let there = |life: &&Life| life.planted.is_some_and(|(_, planted)| planted == place);
        let times = history.lives.iter().filter(there).count();
        if times > 0 {
            found.by_thread.push((place, times));
        }
    }
    for life in &history.lives {
        let Some((at, place)) = life.planted else {
            continue;
        };
        let what = || format!("{}, {place:?} at {}", life.name, history.clock(at));
        // Killed by something else meanwhile.
        let cut_off = life
            .end
            .is_some_and(|(_, how)| matches!(how, End::Killed | End::Aborted));
        if life.hung || (!cut_off && life.gone - waited(life, at) > at + nanos(ENDS_AFTER_A_PANIC))
        {
            found.hung.push(what());
        } else if !cut_off
            && !life
                .down
                .iter()
                .flatten()
                .any(|error| error.contains("panicked"))
        {
            found
                .untold
                .push(format!("{}: it ended with {:?}", what(), life.down));
        }
    }
    found
}

/// How long it was stopped by a signal after that.
fn waited(life: &Life, after: Nanos) -> Nanos {
    life.stops
        .iter()
        .filter(|stop| stop.to >= after && stop.to != Nanos::MAX)
        .map(|stop| stop.to - stop.from)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::{super::testing::calm, check};
    use crate::{
        check::testing::Story,
        journal::{Deed, Note},
        planted::Planted,
    };

    fn panicked() -> Story {
        calm().note(
            "a",
            2_000,
            Note::Planted {
                place: Planted::Owner,
            },
        )
    }

    fn down(story: Story, at: i64, error: Option<&str>) -> Story {
        let gone = Deed::Exited {
            member: "a".into(),
            orderly: true,
            status: "exit status: 1".into(),
        };
        story
            .note(
                "a",
                at,
                Note::Down {
                    error: error.map(str::to_owned),
                },
            )
            .deed(at + 10, gone)
    }

    fn counts(story: Story) -> (usize, usize) {
        let found = check(&story.history());
        (found.hung.len(), found.untold.len())
    }

    #[test]
    fn a_process_that_ends_with_the_panic_as_its_error_is_as_it_should_be() {
        let story = down(
            panicked(),
            5_000,
            Some("the owner of t-0 panicked: planted"),
        );
        let found = check(&story.history());
        assert_eq!((found.hung.len(), found.untold.len()), (0, 0));
        assert_eq!(found.by_thread, [(Planted::Owner, 1)]);
    }

    #[test]
    fn one_that_ends_as_if_nothing_had_happened_or_with_another_error_is_found() {
        assert_eq!(counts(down(panicked(), 5_000, None)), (0, 1));
        assert_eq!(
            counts(down(panicked(), 5_000, Some("the close timed out"))),
            (0, 1)
        );
    }

    #[test]
    fn one_that_does_not_end_is_found_unless_something_else_ended_or_stopped_it() {
        assert_eq!(counts(panicked()), (1, 0));
        assert_eq!(counts(down(panicked(), 95_000, Some("panicked"))), (1, 0));
        let hung = down(panicked(), 5_000, Some("panicked"))
            .deed(4_000, Deed::Hung { member: "a".into() });
        assert_eq!(counts(hung), (1, 0));
        assert_eq!(counts(panicked().kill("a", 2_500)), (0, 0));
        assert_eq!(counts(panicked().kill("a", 1_900)), (0, 0));
    }
}
