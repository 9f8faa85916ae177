//! Whether the process has started, lives, and is ready; and what is not as it should be.

use std::time::Duration;

use keylane::status::{
    OngoingOutage, OutageKind, PartitionStatus, PausedBy, State, SubscriptionStatus, TroubleKind,
};
use serde::Serialize;

/// The most reasons in an answer; the rest is counted.
const REASONS: usize = 100;

/// The question of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    Startup,
    Live,
    Ready,
}

/// The answer.
#[derive(Debug, Serialize)]
pub(crate) struct Health {
    pub(crate) status: Verdict,
    /// Those that make it failing come first.
    pub(crate) reasons: Vec<Reason>,
    /// How many reasons there are besides.
    omitted: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Ok,
    /// The answer is yes, but something needs attention.
    Degraded,
    Failing,
}

#[derive(Debug, Serialize)]
pub(crate) struct Reason {
    severity: Verdict,
    pub(crate) code: Code,
    subscription: Option<String>,
    topic: Option<String>,
    partition: Option<i32>,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Code {
    NoSubscription,
    Starting,
    NotAssigned,
    NotPolling,
    Closing,
    Stopped,
    Failed,
    BrokerAway,
    AuthenticationRefused,
    AuthorizationRefused,
    MissingTopic,
    GroupProtocol,
    MembershipLost,
    CommitsFailing,
    RetriesHeld,
    ControlTopic,
    ClientTrouble,
    Paused,
    Rebalancing,
    Outage,
    BadDeployment,
    PartitionPaused,
    NoPosition,
    PausedByNotDue,
    PartitionStalled,
    OwnerBlocked,
    RecordsParked,
    IsolatedAfterCrash,
    KeysPaused,
}

/// One subscription as it was seen.
pub(crate) struct Seen {
    pub(crate) name: String,
    pub(crate) status: SubscriptionStatus,
}

/// Answers the question for all subscriptions together. A polling thread that has not polled for
/// `polling_limit` is stalled.
pub(crate) fn look(question: Question, subscriptions: &[Seen], polling_limit: Duration) -> Health {
    let mut reasons = Vec::new();
    if subscriptions.is_empty() && question != Question::Live {
        let text = "no subscription has been added to the server".to_owned();
        reasons.push(Reason::of_server(
            Verdict::Failing,
            Code::NoSubscription,
            text,
        ));
    }
    for Seen { name, status } in subscriptions {
        if let Some((code, text)) = failing(question, status, polling_limit) {
            reasons.push(Reason::of_subscription(Verdict::Failing, code, name, text));
        }
    }
    for Seen { name, status } in subscriptions {
        degraded(name, status, &mut reasons);
    }
    let status = reasons.first().map_or(Verdict::Ok, |first| first.severity);
    let omitted = reasons.len().saturating_sub(REASONS);
    reasons.truncate(REASONS);
    Health {
        status,
        reasons,
        omitted,
    }
}

/// Why the answer is no.
fn failing(
    question: Question,
    status: &SubscriptionStatus,
    polling_limit: Duration,
) -> Option<(Code, String)> {
    match question {
        Question::Startup if status.joined => None,
        Question::Startup => not_running(status.state).or_else(|| Some(starting())),
        // It was stopped on purpose, so a restart is not intended.
        Question::Live if status.state == State::Stopped => None,
        Question::Live if status.state == State::Failed => not_running(status.state),
        Question::Live => not_polling(status, polling_limit),
        Question::Ready => not_running(status.state)
            .or_else(|| (!status.joined).then(starting))
            .or_else(|| not_polling(status, polling_limit))
            .or_else(|| not_assigned(status)),
    }
}

fn not_running(state: State) -> Option<(Code, String)> {
    Some(match state {
        State::Draining => (Code::Closing, "it is shutting down".to_owned()),
        State::Stopped => (Code::Stopped, "it has ended".to_owned()),
        State::Failed => (
            Code::Failed,
            "it has ended with an error: see the log; only a restart helps".to_owned(),
        ),
        _ => return None,
    })
}

fn starting() -> (Code, String) {
    (Code::Starting, "it has not joined its group yet".to_owned())
}

fn not_polling(status: &SubscriptionStatus, limit: Duration) -> Option<(Code, String)> {
    let silent = status.polled_ago;
    let text = || {
        format!(
            "its polling thread has not polled for {} s",
            silent.as_secs()
        )
    };
    (silent > limit).then(|| (Code::NotPolling, text()))
}

fn not_assigned(status: &SubscriptionStatus) -> Option<(Code, String)> {
    if !status.assigned {
        return Some((
            Code::NotAssigned,
            "its assignment was taken away; it joins the group again".to_owned(),
        ));
    }
    let trouble = status
        .troubles
        .iter()
        .find(|trouble| trouble.kind == TroubleKind::MissingTopic)?;
    status
        .partitions
        .is_empty()
        .then(|| (Code::MissingTopic, trouble.message.clone()))
}

/// The reasons of a degraded answer, for every question.
fn degraded(name: &str, status: &SubscriptionStatus, reasons: &mut Vec<Reason>) {
    if matches!(status.state, State::Stopped | State::Failed) {
        return;
    }
    let mut add = |code, text: String| {
        reasons.push(Reason::of_subscription(Verdict::Degraded, code, name, text))
    };
    match status.state {
        State::Paused => add(Code::Paused, "it is paused by the user".to_owned()),
        State::Rebalancing => add(Code::Rebalancing, "it gives partitions back".to_owned()),
        _ => {}
    }
    if let Some(outage) = &status.outage {
        // All outages together hold these records, so the first reason has their number.
        let mut held = outage.held;
        for ongoing in &outage.ongoing {
            let code = if ongoing.kind == OutageKind::BadDeployment {
                Code::BadDeployment
            } else {
                Code::Outage
            };
            add(
                code,
                outage_text(ongoing, std::mem::take(&mut held), outage.window_full),
            );
        }
    }
    for trouble in &status.troubles {
        add(trouble_code(trouble.kind), trouble.message.clone());
    }
    for partition in &status.partitions {
        let snapshot = &partition.snapshot;
        let mut add = |code, text| reasons.push(Reason::of_partition(code, name, partition, text));
        if let Some(pause) = &partition.paused_by_control {
            let (scope, by, why) = (&pause.scope, &pause.by, &pause.why);
            let text = format!("the control topic pauses it, as {scope}; by `{by}`: {why}");
            add(Code::PartitionPaused, text);
        } else if partition.paused_by == Some(PausedBy::Control) {
            let text = "it waits until the control topic is read as it was when the partition was assigned";
            add(Code::ControlTopic, text.to_owned());
        } else if partition.paused_by_user && status.state != State::Paused {
            add(Code::PartitionPaused, "it is paused by the user".to_owned());
        }
        if partition.paused_by == Some(PausedBy::NoPosition) {
            let text = "nothing of it is read yet: the brokers do not answer with the committed offset or the \
                        log's range, or refuse the commit of its first position";
            add(Code::NoPosition, text.to_owned());
        }
        if partition.paused_by == Some(PausedBy::NotDue) {
            let (not_due, pending) = (snapshot.not_due, snapshot.pending);
            let text = format!(
                "{not_due} of {pending} pending records are not due, or behind one that is not, and fill the limits: nothing more \
                 is read until they are due"
            );
            add(Code::PausedByNotDue, text);
        }
        if let Some(stalled) = snapshot.stalled_for {
            let text = format!("no progress for {} s", stalled.as_secs());
            let waits_for = partition
                .oldest
                .as_ref()
                .map(|oldest| format!(": the commit waits for offset {}", oldest.offset));
            add(
                Code::PartitionStalled,
                text + &waits_for.unwrap_or_default(),
            );
        }
        if let Some(blocked) = partition.blocked_for {
            let text = format!(
                "it has not run for {} s: a processor blocks its thread",
                blocked.as_secs()
            );
            add(Code::OwnerBlocked, text);
        }
        if snapshot.parked > 0 {
            let text = match snapshot.parked {
                1 => "1 record is parked, and its key waits".to_owned(),
                parked => format!("{parked} records are parked, and their keys wait"),
            };
            add(Code::RecordsParked, text);
        }
        if snapshot.paused_keys > 0 {
            let text = match snapshot.paused_keys {
                1 => "records of 1 key wait: an operator paused it".to_owned(),
                keys => format!("records of {keys} keys wait: an operator paused them"),
            };
            add(Code::KeysPaused, text);
        }
        if snapshot.isolated {
            let text =
                "after crashes its records run one at a time, until the one that kills is found";
            add(Code::IsolatedAfterCrash, text.to_owned());
        }
    }
}

fn outage_text(ongoing: &OngoingOutage, held: u64, window_full: bool) -> String {
    let what = match (ongoing.kind, &ongoing.place, &ongoing.class) {
        (OutageKind::Place, Some(place), _) => {
            format!("many keys fail at `{place}`, and none of them has succeeded since")
        }
        (OutageKind::Class, _, Some(class)) => format!("many keys fail with `{class}`"),
        (OutageKind::BadDeployment, ..) => {
            "many records are undecodable, fatal or panic, and none succeeds".to_owned()
        }
        (OutageKind::Unavailable, ..) => "something that a few keys need is unavailable".to_owned(),
        _ => "everything fails".to_owned(),
    };
    let held = match held {
        0 => String::new(),
        1 => "; 1 record is held instead of given up".to_owned(),
        held => format!("; {held} records are held instead of given up"),
    };
    let full = if window_full {
        "; the window is full, and good records may wait behind them"
    } else {
        ""
    };
    format!("{what}{held}{full}")
}

fn trouble_code(kind: TroubleKind) -> Code {
    match kind {
        TroubleKind::Connection => Code::BrokerAway,
        TroubleKind::Authentication => Code::AuthenticationRefused,
        TroubleKind::Authorization => Code::AuthorizationRefused,
        TroubleKind::MissingTopic => Code::MissingTopic,
        TroubleKind::GroupProtocol => Code::GroupProtocol,
        TroubleKind::Membership => Code::MembershipLost,
        TroubleKind::Commit => Code::CommitsFailing,
        TroubleKind::ForeignRetries => Code::RetriesHeld,
        TroubleKind::ControlTopic => Code::ControlTopic,
        // Of kinds that come later, too, until they have a code of their own.
        _ => Code::ClientTrouble,
    }
}

impl Reason {
    fn of_server(severity: Verdict, code: Code, text: String) -> Self {
        Self {
            severity,
            code,
            subscription: None,
            topic: None,
            partition: None,
            text,
        }
    }

    fn of_subscription(severity: Verdict, code: Code, name: &str, text: String) -> Self {
        Self {
            subscription: Some(name.to_owned()),
            ..Self::of_server(severity, code, text)
        }
    }

    fn of_partition(code: Code, name: &str, partition: &PartitionStatus, text: String) -> Self {
        let (topic, partition) = (Some(partition.topic.to_string()), Some(partition.partition));
        Self {
            severity: Verdict::Degraded,
            code,
            subscription: Some(name.to_owned()),
            topic,
            partition,
            text,
        }
    }
}

#[cfg(test)]
impl Code {
    /// All codes, in the order of `openapi.json`.
    pub(crate) const ALL: [Self; 29] = [
        Self::NoSubscription,
        Self::Starting,
        Self::NotAssigned,
        Self::NotPolling,
        Self::Closing,
        Self::Stopped,
        Self::Failed,
        Self::BrokerAway,
        Self::AuthenticationRefused,
        Self::AuthorizationRefused,
        Self::MissingTopic,
        Self::GroupProtocol,
        Self::MembershipLost,
        Self::CommitsFailing,
        Self::RetriesHeld,
        Self::ControlTopic,
        Self::ClientTrouble,
        Self::Paused,
        Self::Rebalancing,
        Self::Outage,
        Self::BadDeployment,
        Self::PartitionPaused,
        Self::NoPosition,
        Self::PausedByNotDue,
        Self::PartitionStalled,
        Self::OwnerBlocked,
        Self::RecordsParked,
        Self::IsolatedAfterCrash,
        Self::KeysPaused,
    ];
}
