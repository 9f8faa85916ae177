//! Retries of other groups: whose a record of a retry topic is, and what becomes of it.
//!
//! Groups that share a retry topic all read every retry in it. If each processed all of them, every
//! failure of one group would be a failure of all. `g` groups would make up to `g` to the power of
//! `rounds` copies of one record. So a retry that another group wrote is settled as *foreign*. That
//! group reads it too, and processes it.
//!
//! A record must not be settled here that no group would ever process. These are the bounds:
//!
//! | the record | becomes |
//! |---|---|
//! | names no group (Decaton's, a tool's) | processed |
//! | was requeued by another program since | processed: its group header is out of date |
//! | names this group, or one that is adopted | processed |
//! | names this group, and an origin topic that this subscription does not read | held: no other group would process it |
//! | names another group that is alive | settled as foreign |
//! | names another group that is gone, or that cannot be queried | held |
//!
//! A held record stays unsettled, uses no worker and holds no lane. It is settled as foreign when
//! its group is seen alive, and delivered again after a restart or a rebalance.

mod groups;

pub use groups::{Groups, MAX_GROUPS, QUESTION_PATIENCE};

/// What becomes of retries of other groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForeignPolicy {
    /// Settled as foreign where the group is alive, else held.
    #[default]
    Settle,
    /// Held, whether or not the group is alive.
    Hold,
    /// Processed like this group's own.
    Process,
}

/// Which program wrote a record of a retry topic, by its headers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Provenance<'a> {
    /// The group that wrote it, as its header has it.
    pub group: Option<&'a str>,
    /// The topic where the record was read first.
    pub origin_topic: Option<&'a str>,
    /// Another program has requeued it since.
    pub requeued: bool,
}

/// Which group a record of a retry topic belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Whose {
    /// This group's: it is processed here.
    Ours,
    /// Written by this group, for an origin topic that this subscription does not read.
    Stray,
    /// Another group's.
    Foreign,
}

/// Whether a group still works. Kafka has no other sign of it than its members and its commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Liveness {
    /// No answer has come yet, or it is too old.
    NotYetKnown,
    /// It has members, or has committed offsets of the retry topic.
    Alive,
    /// It has neither.
    Gone,
    /// No broker answers, or this client may not describe the group.
    Unknown,
}

/// What is done with a record of a retry topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// It is processed.
    Process,
    /// It is settled as foreign, without an attempt.
    Settle,
    /// It stays unsettled.
    Hold(HeldBecause),
}

/// Why a record is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum HeldBecause {
    /// Its group is being queried.
    Asking,
    /// Its group is gone.
    Gone,
    /// The brokers do not answer whether its group is alive.
    Unknown,
    /// The policy is [`ForeignPolicy::Hold`].
    Policy,
    /// It is this group's, of an origin topic that this subscription does not read.
    Stray,
}

/// Which retries belong to this subscription.
///
/// # Examples
/// ```
/// use keylane_core::{HeldBecause, Liveness, Ownership, Provenance, Ruling, Whose};
///
/// let ours = Ownership {
///     group: "billing".into(),
///     adopted: vec!["billing-v1".into()],
///     ..Ownership::default()
/// };
/// let of = |group| {
///     let group = Some(group);
///     ours.whose(Provenance { group, origin_topic: None, requeued: false })
/// };
/// assert_eq!([of("billing-v1"), of("audit")], [Whose::Ours, Whose::Foreign]);
/// let gone = ours.rule(Whose::Foreign, || Liveness::Gone);
/// assert_eq!(gone, Ruling::Hold(HeldBecause::Gone));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Ownership {
    /// Its group, as headers have it.
    pub group: String,
    /// Groups whose retries are processed here, as headers have them.
    pub adopted: Vec<String>,
    /// The origin topics it reads.
    pub origins: Vec<String>,
    /// What becomes of the retries of others.
    pub policy: ForeignPolicy,
}

impl Ownership {
    /// Whose this record is.
    pub fn whose(&self, provenance: Provenance<'_>) -> Whose {
        let Provenance {
            group: Some(group),
            origin_topic,
            requeued: false,
        } = provenance
        else {
            return Whose::Ours;
        };
        if self.adopted.iter().any(|adopted| adopted == group) {
            return Whose::Ours;
        }
        if group != self.group {
            return Whose::Foreign;
        }
        let is_read = |topic: &str| self.origins.iter().any(|origin| origin == topic);
        if origin_topic.is_none_or(is_read) {
            Whose::Ours
        } else {
            Whose::Stray
        }
    }

    /// What is done with a record. `liveness` returns what is known of the group that the record
    /// names. It is called only where it matters.
    pub fn rule(&self, whose: Whose, liveness: impl FnOnce() -> Liveness) -> Ruling {
        match (whose, self.policy) {
            (Whose::Ours, _) | (_, ForeignPolicy::Process) => Ruling::Process,
            (Whose::Stray, _) => Ruling::Hold(HeldBecause::Stray),
            (Whose::Foreign, ForeignPolicy::Hold) => Ruling::Hold(HeldBecause::Policy),
            (Whose::Foreign, ForeignPolicy::Settle) => match liveness() {
                Liveness::Alive => Ruling::Settle,
                Liveness::NotYetKnown => Ruling::Hold(HeldBecause::Asking),
                Liveness::Gone => Ruling::Hold(HeldBecause::Gone),
                Liveness::Unknown => Ruling::Hold(HeldBecause::Unknown),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours() -> Ownership {
        Ownership {
            group: "billing".into(),
            adopted: vec!["invoices".into()],
            origins: vec!["orders".into(), "returns".into()],
            policy: ForeignPolicy::Settle,
        }
    }

    fn of(group: &str) -> Provenance<'_> {
        Provenance {
            group: Some(group),
            origin_topic: Some("orders"),
            requeued: false,
        }
    }

    #[test]
    fn a_record_without_a_group_and_this_groups_own_are_processed() {
        let ours = ours();
        assert_eq!(ours.whose(Provenance::default()), Whose::Ours);
        assert_eq!(ours.whose(of("billing")), Whose::Ours);
        let without_origin = Provenance {
            origin_topic: None,
            ..of("billing")
        };
        assert_eq!(ours.whose(without_origin), Whose::Ours);
    }

    #[test]
    fn a_record_of_another_group_is_foreign_unless_that_group_is_adopted() {
        let ours = ours();
        assert_eq!(ours.whose(of("shipping")), Whose::Foreign);
        assert_eq!(ours.whose(of("billing ")), Whose::Foreign);
        let adopted = Provenance {
            origin_topic: Some("old-orders"),
            ..of("invoices")
        };
        assert_eq!(ours.whose(adopted), Whose::Ours);
    }

    #[test]
    fn a_record_that_was_requeued_since_is_processed_whatever_group_it_names() {
        let ours = ours();
        for group in ["shipping", "billing"] {
            let stray = Provenance {
                origin_topic: Some("carts"),
                requeued: true,
                ..of(group)
            };
            assert_eq!(ours.whose(stray), Whose::Ours);
        }
    }

    #[test]
    fn a_record_of_this_group_and_of_an_origin_that_is_not_read_is_never_foreign() {
        let stray = Provenance {
            origin_topic: Some("carts"),
            ..of("billing")
        };
        let mut ours = ours();
        assert_eq!(ours.whose(stray), Whose::Stray);
        for liveness in [Liveness::Alive, Liveness::Gone, Liveness::Unknown] {
            let ruling = ours.rule(Whose::Stray, || liveness);
            assert_eq!(ruling, Ruling::Hold(HeldBecause::Stray));
        }
        ours.adopted.push("billing".into());
        assert_eq!(ours.whose(stray), Whose::Ours);
    }

    #[test]
    fn only_a_group_that_is_alive_makes_a_record_foreign() {
        let ours = ours();
        let rule = |liveness| ours.rule(Whose::Foreign, || liveness);
        assert_eq!(rule(Liveness::Alive), Ruling::Settle);
        assert_eq!(rule(Liveness::Gone), Ruling::Hold(HeldBecause::Gone));
        assert_eq!(rule(Liveness::Unknown), Ruling::Hold(HeldBecause::Unknown));
        assert_eq!(
            rule(Liveness::NotYetKnown),
            Ruling::Hold(HeldBecause::Asking)
        );
    }

    #[test]
    fn the_policy_holds_or_processes_without_a_question() {
        let unasked = || panic!("no question is needed");
        let hold = Ownership {
            policy: ForeignPolicy::Hold,
            ..ours()
        };
        assert_eq!(
            hold.rule(Whose::Foreign, unasked),
            Ruling::Hold(HeldBecause::Policy)
        );
        assert_eq!(hold.rule(Whose::Ours, unasked), Ruling::Process);
        let process = Ownership {
            policy: ForeignPolicy::Process,
            ..ours()
        };
        for whose in [Whose::Ours, Whose::Stray, Whose::Foreign] {
            assert_eq!(process.rule(whose, unasked), Ruling::Process);
        }
    }
}
