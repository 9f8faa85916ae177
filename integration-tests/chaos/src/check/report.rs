//! The one line that a run comes to.

use std::path::Path;

use serde::Serialize;

use super::{
    History, away, commits,
    cut::{self, CutReport},
    duplicates::{self, Duplicates},
    foreign,
    history::HistoryError,
    loss, order, overlap, panics,
    redelivery::{self, Cut},
    stalls::{self, Stall},
};
use crate::{planted::Planted, settings::Protocol};

/// How many findings of one kind are listed.
const TOLD: usize = 10;

/// The result of a run. The figures that must be 0 are named in `violations` where they are not.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The group protocol.
    pub protocol: Protocol,
    /// How long things were broken.
    pub minutes: f64,
    /// Whether failures went to the retry topic; else they are tried in place only.
    pub retry_topic: bool,
    /// Whether members kept their places over restarts.
    pub static_members: bool,
    /// Records in the origin topic.
    pub produced: usize,
    /// Attempts.
    pub attempts: usize,
    /// Records that were processed successfully.
    pub done: usize,
    /// Records that the processor skipped.
    pub skipped: usize,
    /// Records that became dead letters.
    pub dead_lettered: usize,
    /// Those of them that ended their process.
    pub poisoned: usize,
    /// The most often such a record began.
    pub poison_starts: usize,
    /// Records that were parked at some time, since a topic refused them.
    pub parked: usize,
    /// Records that are neither done nor given up, and not committed. A violation: all was healed.
    pub unfinished: usize,
    /// Records that are neither done nor given up, and committed. A violation.
    pub lost: usize,
    /// Records that ended no process, and were settled as if they had. A violation.
    pub blamed: usize,
    /// Dead letters of records that would have succeeded later: more failures than those of their
    /// own.
    pub given_up_early: usize,
    /// Acknowledged records that are not in the log: the brokers' loss.
    pub vanished: usize,
    /// Attempts at records that were not written, or outside of an epoch. A violation.
    pub unknown: usize,
    /// Starts out of turn. A violation.
    pub order_violations: usize,
    /// Two attempts of one key at a time, with no member dead, stopped or cut off. A violation.
    pub overlaps_clean: usize,
    /// The same with a member that was.
    pub overlaps_crash: usize,
    /// What was settled again. A violation where there is no cause.
    pub duplicates: Duplicates,
    /// Dead letters beyond the first of a record.
    pub dead_letters_repeated: usize,
    /// Records of the retry topic beyond the first of a record's round.
    pub retries_repeated: usize,
    /// Commits that were seen.
    pub commits_seen: usize,
    /// Records committed before they were settled. A violation.
    pub committed_beyond_settled: usize,
    /// Commits behind an earlier one. A violation.
    pub commits_went_back: usize,
    /// The same where the client sent a commit again, which `group.protocol=consumer` makes it do,
    /// and it was soon made good.
    pub commits_sent_again: usize,
    /// Metadata that could not be read. A violation.
    pub metadata_unreadable: usize,
    /// Each death, and each pause that cost the assignment.
    pub cuts: Vec<Cut>,
    /// Records that came again although they had been settled longer before than the commit
    /// interval. A violation.
    pub redelivered_beyond_bound: usize,
    /// The longest time in which a partition made no progress while records waited.
    pub longest_stall: Option<Stall>,
    /// The longest of each partition, in seconds.
    pub stalls_seconds: Vec<f64>,
    /// Processes that ended by themselves with an error.
    pub members_failed: usize,
    /// How long it took until all was committed; a violation where that never came.
    pub quiet_after_seconds: Option<f64>,
    /// Whether the members had to be started again for that.
    pub final_restart: bool,
    /// Attempts that failed because what they need was away.
    pub attempts_in_outages: usize,
    /// Good records that became dead letters because of an outage, against a promise. A violation.
    pub given_up_in_an_outage: usize,
    /// The same where too few keys had failed for an outage to be seen, after their retry time.
    pub given_up_alone: usize,
    /// Panics that went off in keylane's own threads.
    pub panics: Vec<(Planted, usize)>,
    /// Processes that did not end after one. A violation.
    pub hung_after_panic: usize,
    /// Records of the retry topic that another group wrote.
    pub foreign_retries: usize,
    /// Attempts at one of those. A violation.
    pub foreign_processed: usize,
    /// The topic whose log was cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut_log: Option<CutReport>,
    /// The same figures for the second group on the same topics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub second_group: Option<Box<Report>>,
    /// The names of what must not be.
    pub violations: Vec<String>,
}

impl Report {
    /// Reads what a run left in `directory` and runs all checks on it, on both groups where there
    /// are two.
    ///
    /// # Errors
    /// When files are missing or damaged.
    pub fn of_run(directory: &Path, mut tell: impl FnMut(&str)) -> Result<Self, HistoryError> {
        let mut report = Self::of(&History::load(directory)?, &mut tell);
        if let Some(second) = History::load_second(directory)? {
            let second = Self::of(&second, |finding| tell(&format!("second group: {finding}")));
            // The run comes to rest as a whole.
            let own = second.violations.iter().filter(|name| *name != "not_quiet");
            report
                .violations
                .extend(own.map(|name| format!("second_group.{name}")));
            report.second_group = Some(Box::new(second));
        }
        if let Some(cut) = cut::load(directory)? {
            let named = [
                ("lost", &cut.lost),
                ("unfinished", &cut.unfinished),
                ("given_up", &cut.given_up),
            ];
            for (name, findings) in named {
                report.note(&format!("cut_log.{name}"), findings, &mut tell);
            }
            report.cut_log = Some(cut.report);
        }
        Ok(report)
    }

    fn note(&mut self, name: &str, findings: &[String], mut tell: impl FnMut(&str)) {
        if !findings.is_empty() {
            self.violations.push(name.to_owned());
        }
        for finding in findings.iter().take(TOLD) {
            tell(&format!("{name}: {finding}"));
        }
    }

    /// Runs all checks; the first findings of each go to `tell`, a line each.
    pub fn of(history: &History, mut tell: impl FnMut(&str)) -> Self {
        let evidence = &history.evidence;
        let fates = loss::check(history);
        let order = order::violations(history);
        let overlaps = overlap::find(history);
        let (duplicates, unexplained) = duplicates::find(history);
        let (cuts, beyond) = redelivery::find(history);
        let commits = commits::check(history);
        let stalls = stalls::find(history);
        let away = away::check(history);
        let panics = panics::check(history);
        let foreign = foreign::check(history);
        let mut report = Self {
            seed: evidence.schedule.seed,
            protocol: evidence.common.protocol,
            minutes: evidence.schedule.load_ms as f64 / 60_000.0,
            retry_topic: evidence.common.retry_topic,
            static_members: evidence.common.static_members,
            produced: history.records.len(),
            attempts: history.attempts.len(),
            done: fates.done,
            skipped: fates.skipped,
            dead_lettered: fates.dead_lettered,
            poisoned: fates.poisoned,
            poison_starts: fates.poison_starts,
            parked: history.parked.len(),
            unfinished: fates.unfinished.len(),
            lost: fates.lost.len(),
            blamed: fates.blamed.len(),
            given_up_early: fates.given_up_early,
            vanished: fates.vanished,
            unknown: fates.unknown.len(),
            order_violations: order.len(),
            overlaps_clean: overlaps.clean.len(),
            overlaps_crash: overlaps.crash,
            duplicates,
            dead_letters_repeated: fates.dead_letters_repeated,
            retries_repeated: fates.retries_repeated,
            commits_seen: evidence.samples.len(),
            committed_beyond_settled: commits.beyond_settled.len(),
            commits_went_back: commits.went_back.len(),
            commits_sent_again: commits.sent_again,
            metadata_unreadable: evidence.unreadable.len(),
            cuts,
            redelivered_beyond_bound: beyond.len(),
            stalls_seconds: stalls.iter().map(|stall| stall.seconds).collect(),
            longest_stall: stalls
                .into_iter()
                .max_by(|one, other| one.seconds.total_cmp(&other.seconds)),
            members_failed: evidence.members_failed,
            quiet_after_seconds: evidence
                .quiet_after_ms
                .map(|millis| millis as f64 / 1_000.0),
            final_restart: evidence.final_restart,
            attempts_in_outages: away.attempts,
            given_up_in_an_outage: away.given_up.len(),
            given_up_alone: away.given_up_alone,
            panics: panics.by_thread,
            hung_after_panic: panics.hung.len(),
            foreign_retries: evidence.foreign_retries.len(),
            foreign_processed: foreign.processed.len(),
            cut_log: None,
            second_group: None,
            violations: Vec::new(),
        };
        let never = if evidence.quiet_after_ms.is_none() {
            vec!["not all was committed in time".to_owned()]
        } else {
            vec![]
        };
        for (name, findings) in [
            ("lost", &fates.lost),
            ("unfinished", &fates.unfinished),
            ("blamed", &fates.blamed),
            ("unknown", &fates.unknown),
            ("order_violations", &order),
            ("overlaps_clean", &overlaps.clean),
            ("duplicates.unexplained", &unexplained),
            ("redelivered_beyond_bound", &beyond),
            ("committed_beyond_settled", &commits.beyond_settled),
            ("commits_went_back", &commits.went_back),
            ("metadata_unreadable", &evidence.unreadable),
            ("given_up_in_an_outage", &away.given_up),
            ("hung_after_panic", &panics.hung),
            ("panic_not_told", &panics.untold),
            ("foreign_processed", &foreign.processed),
            ("retries_multiplied", &foreign.multiplied),
            ("not_quiet", &never),
        ] {
            report.note(name, findings, &mut tell);
        }
        report
    }

    /// Whether every promise was kept.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }
}
