//! One finding of a check-up.

use super::Report;
use crate::output::{Cell, Table};

const COLUMNS: &[&str] = &["check", "subject", "verdict", "finding", "fix"];

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Ok,
    /// It works, with a hazard.
    Warning,
    /// It does not work.
    Problem,
    /// It could not be found out.
    Unknown,
}

/// What a check has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) check: &'static str,
    pub(super) subject: String,
    pub(super) verdict: Verdict,
    pub(super) text: String,
    pub(super) fix: Option<String>,
}

impl Finding {
    pub(super) fn ok(check: &'static str, subject: &str, text: impl Into<String>) -> Self {
        Self::new(check, subject, Verdict::Ok, text.into())
    }

    pub(super) fn warning(check: &'static str, subject: &str, text: impl Into<String>) -> Self {
        Self::new(check, subject, Verdict::Warning, text.into())
    }

    pub(super) fn problem(check: &'static str, subject: &str, text: impl Into<String>) -> Self {
        Self::new(check, subject, Verdict::Problem, text.into())
    }

    pub(super) fn unknown(check: &'static str, subject: &str, text: impl Into<String>) -> Self {
        Self::new(check, subject, Verdict::Unknown, text.into())
    }

    pub(super) fn fix(self, fix: impl Into<String>) -> Self {
        let fix = Some(fix.into());
        Self { fix, ..self }
    }

    fn new(check: &'static str, subject: &str, verdict: Verdict, text: String) -> Self {
        Self {
            check,
            subject: subject.to_owned(),
            verdict,
            text,
            fix: None,
        }
    }
}

pub(super) fn report(findings: &[Finding]) -> Report {
    let mut table = Table::new(COLUMNS);
    for finding in findings {
        let verdict = match finding.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Problem => "problem",
            Verdict::Unknown => "unknown",
        };
        table.push(vec![
            Cell::text(finding.check),
            Cell::text(&finding.subject),
            Cell::text(verdict),
            Cell::text(&finding.text),
            finding.fix.as_ref().map_or(Cell::Nothing, Cell::text),
        ]);
    }
    Report {
        has_problems: findings.iter().any(|it| it.verdict == Verdict::Problem),
        ..table.into()
    }
}
