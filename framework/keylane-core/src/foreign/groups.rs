//! What is known of other groups, and when to ask about one.

use std::sync::Arc;
use std::time::Duration;

use super::Liveness;
use crate::time::Moment;

/// How many groups are remembered. Records of further ones are held until there is room. Their
/// names are kept as they are: the caller leaves out what is too long for one.
pub const MAX_GROUPS: usize = 64;
/// How long an answer may take. After that the question counts as unanswered.
pub const QUESTION_PATIENCE: Duration = Duration::from_secs(60);

/// The pause before the same group is queried again, where the last answer was not "alive". It
/// doubles from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// A group is queried only if one of its records was looked at in this time.
const WANTED_FOR: Duration = Duration::from_secs(60);
/// How long an answer counts: through two pauses and a question that gets no answer.
const VALID_FOR: Duration = Duration::from_secs(2 * 30 + 60);

/// The other groups whose retries this subscription has read.
///
/// One question is under way at a time. A group is queried at most every 30 s, except for the first
/// questions after its first record, which follow each other faster. A group that is not looked at
/// is removed.
#[derive(Debug, Default)]
pub struct Groups {
    known: Vec<Known>,
    under_way: Option<(Arc<str>, Moment)>,
}

#[derive(Debug)]
struct Known {
    name: Arc<str>,
    looked_at: Moment,
    /// When the last question was answered, or given up.
    asked_at: Option<Moment>,
    /// The answers in a row that were not "alive".
    doubts: u32,
    answer: Option<(Liveness, Moment)>,
}

impl Groups {
    /// What is known of a group. From now on it is queried.
    pub fn liveness(&mut self, group: &str, now: Moment) -> Liveness {
        let Some(known) = self.entry(group, now) else {
            return Liveness::Unknown;
        };
        known.looked_at = now;
        known.liveness(now)
    }

    /// The next group to query, if one is due. The caller answers with
    /// [`answered`](Self::answered).
    pub fn next_question(&mut self, now: Moment) -> Option<Arc<str>> {
        if let Some((name, since)) = &self.under_way {
            if now.since(*since) < QUESTION_PATIENCE {
                return None;
            }
            let lost = name.clone();
            self.answered(&lost, Liveness::Unknown, now);
        }
        let due = self.known.iter().filter(|known| known.is_due(now));
        let name = due.min_by_key(|known| known.asked_at)?.name.clone();
        self.under_way = Some((name.clone(), now));
        Some(name)
    }

    /// What came of a question: alive, gone or unknown.
    ///
    /// "Unknown" does not replace what was known before; that counts until it is too old.
    pub fn answered(&mut self, group: &str, liveness: Liveness, now: Moment) {
        self.under_way = self.under_way.take().filter(|(name, _)| &**name != group);
        let Some(known) = self.known.iter_mut().find(|known| &*known.name == group) else {
            return;
        };
        known.asked_at = Some(now);
        known.doubts = match liveness {
            Liveness::Alive => 0,
            _ => known.doubts.saturating_add(1),
        };
        let knew = !matches!(
            known.liveness(now),
            Liveness::NotYetKnown | Liveness::Unknown
        );
        if liveness != Liveness::Unknown || !knew {
            known.answer = Some((liveness, now));
        }
    }

    fn entry(&mut self, group: &str, now: Moment) -> Option<&mut Known> {
        let place = self.known.iter().position(|known| &*known.name == group);
        let place = match place {
            Some(place) => place,
            None => {
                self.make_room(now)?;
                self.known.push(Known {
                    name: group.into(),
                    looked_at: now,
                    asked_at: None,
                    doubts: 0,
                    answer: None,
                });
                self.known.len() - 1
            }
        };
        self.known.get_mut(place)
    }

    /// Forgets the group that was looked at least recently, if that is long ago.
    fn make_room(&mut self, now: Moment) -> Option<()> {
        if self.known.len() < MAX_GROUPS {
            return Some(());
        }
        let (place, oldest) = self
            .known
            .iter()
            .enumerate()
            .min_by_key(|(_, it)| it.looked_at)?;
        if now.since(oldest.looked_at) < WANTED_FOR {
            return None;
        }
        self.known.swap_remove(place);
        Some(())
    }
}

impl Known {
    fn liveness(&self, now: Moment) -> Liveness {
        match self.answer {
            Some((liveness, at)) if now.since(at) < VALID_FOR => liveness,
            _ => Liveness::NotYetKnown,
        }
    }

    fn is_due(&self, now: Moment) -> bool {
        let Some(asked_at) = self.asked_at else {
            return true;
        };
        let pause = match self.doubts {
            0 => LAST_PAUSE,
            doubts => FIRST_PAUSE
                .saturating_mul(1 << (doubts - 1).min(5))
                .min(LAST_PAUSE),
        };
        now.since(self.looked_at) < WANTED_FOR && now.since(asked_at) >= pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::new(Duration::from_secs(seconds))
    }

    /// Takes a question and answers it at once.
    fn ask(groups: &mut Groups, answer: Liveness, now: Moment) -> Option<Arc<str>> {
        let asked = groups.next_question(now)?;
        groups.answered(&asked, answer, now);
        Some(asked)
    }

    #[test]
    fn a_group_is_asked_about_when_a_record_names_it_and_its_answer_counts() {
        let mut groups = Groups::default();
        assert_eq!(groups.next_question(at(0)), None);
        assert_eq!(groups.liveness("shipping", at(0)), Liveness::NotYetKnown);
        assert_eq!(groups.next_question(at(0)).as_deref(), Some("shipping"));
        groups.answered("shipping", Liveness::Alive, at(1));
        assert_eq!(groups.liveness("shipping", at(2)), Liveness::Alive);
    }

    #[test]
    fn one_question_is_under_way_at_a_time_and_one_without_an_answer_is_given_up() {
        let mut groups = Groups::default();
        groups.liveness("a", at(0));
        groups.liveness("b", at(0));
        assert_eq!(groups.next_question(at(0)).as_deref(), Some("a"));
        assert_eq!(groups.next_question(at(59)), None);
        assert_eq!(groups.next_question(at(60)).as_deref(), Some("b"));
        assert_eq!(groups.liveness("a", at(60)), Liveness::Unknown);
    }

    #[test]
    fn a_group_in_doubt_is_asked_about_again_soon_at_first_and_every_30_seconds_then() {
        let mut groups = Groups::default();
        groups.liveness("gone", at(0));
        let mut asked = Vec::new();
        for second in 0..200 {
            groups.liveness("gone", at(second));
            if ask(&mut groups, Liveness::Gone, at(second)).is_some() {
                asked.push(second);
            }
        }
        assert_eq!(asked, [0, 1, 3, 7, 15, 31, 61, 91, 121, 151, 181]);
    }

    #[test]
    fn a_group_that_is_alive_is_asked_about_every_30_seconds_while_its_records_come() {
        let mut groups = Groups::default();
        let mut asked = Vec::new();
        for second in 0..300 {
            if second < 100 {
                groups.liveness("alive", at(second));
            }
            if ask(&mut groups, Liveness::Alive, at(second)).is_some() {
                asked.push(second);
            }
        }
        assert_eq!(asked, [0, 30, 60, 90, 120, 150]);
        assert_eq!(
            groups.liveness("alive", at(300)),
            Liveness::NotYetKnown,
            "150 s is too old"
        );
    }

    #[test]
    fn an_unanswered_question_does_not_replace_what_was_known_until_that_is_too_old() {
        for known in [Liveness::Alive, Liveness::Gone] {
            let mut groups = Groups::default();
            groups.liveness("a", at(0));
            ask(&mut groups, known, at(0));
            groups.answered("a", Liveness::Unknown, at(30));
            assert_eq!(groups.liveness("a", at(30)), known);
            groups.answered("a", Liveness::Unknown, at(120));
            assert_eq!(groups.liveness("a", at(120)), Liveness::Unknown);
            groups.answered("a", Liveness::Alive, at(121));
            assert_eq!(groups.liveness("a", at(121)), Liveness::Alive);
        }
    }

    #[test]
    fn the_number_of_groups_is_bounded_and_those_no_longer_met_make_room() {
        let mut groups = Groups::default();
        for number in 0..MAX_GROUPS {
            let group = number.to_string();
            assert_eq!(
                groups.liveness(&group, at(number as u64 / 8)),
                Liveness::NotYetKnown
            );
        }
        assert_eq!(groups.liveness("one more", at(8)), Liveness::Unknown);
        assert_eq!(groups.known.len(), MAX_GROUPS);
        assert_eq!(groups.liveness("one more", at(60)), Liveness::NotYetKnown);
        assert_eq!(groups.known.len(), MAX_GROUPS);
    }
}
