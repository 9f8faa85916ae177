//! Carries out what the core decides about commits, marks and the last commit.

use std::time::{Duration, Instant};

use keylane_core::member::{
    Answered, CommitId, CommitPoint, Commits as Rules, LastStep, MetadataLimit, Outgoing, Refusal,
    Refused,
};
use keylane_core::{MAX_METADATA_BYTES, Mark, Moment};

use super::partitions::Assigned;
use crate::kafka::{Client, CommitAnswer, CommitRefused};

/// The commits of one member. See [`keylane_core::member::Commits`].
pub(crate) struct Commits {
    rules: Rules,
    /// Moments count from here.
    origin: Instant,
}

impl Commits {
    pub(crate) fn new(interval: Duration) -> Self {
        Self {
            rules: Rules::new(interval),
            origin: Instant::now(),
        }
    }

    fn now(&self) -> Moment {
        Moment::new(self.origin.elapsed())
    }

    /// Whether an owner waits for the broker's answer, or will in a moment.
    pub(crate) fn are_urgent(&self, partitions: &[Assigned]) -> bool {
        self.rules.are_awaited() || partitions.iter().any(Assigned::awaits_mark)
    }

    /// Takes in every new commit point and every answer, and sends what is due.
    pub(crate) fn send(&mut self, client: &Client, partitions: &mut [Assigned]) {
        self.rules.points(partitions, Assigned::report);
        self.take_answers(client, partitions);
        let given_up = self.rules.given_up_marks(partitions);
        confirm(partitions, given_up);
        let now = self.now();
        let Some(next) = self.rules.next(partitions, now) else {
            return;
        };
        if let Err((id, error)) = send(client, partitions, &next) {
            match self.rules.not_sent(id, partitions, now) {
                Some(refused) => report(client, refused, error),
                None => tracing::debug!(%error, "a commit was not taken by the client"),
            }
        }
    }

    fn take_answers(&mut self, client: &Client, partitions: &mut [Assigned]) {
        while let Some(CommitAnswer { id, result }) = client.commit_answer() {
            let now = self.now();
            let for_rules = result.map_err(CommitRefused::refusal);
            let answered = self.rules.answer(id, for_rules, partitions, now);
            match (answered, result) {
                (Answered::Confirmed(marks), _) => confirm(partitions, marks),
                (Answered::TooLarge, _) => self.shrink_metadata(partitions),
                (Answered::Refused(refused), Err(error)) => report(client, refused, error),
                (Answered::LastRefused, Err(error)) if error.refusal() == Refusal::Topic => {
                    tracing::warn!(
                        %error,
                        "the last commit was refused for one of its topics; what was settled of that since the commit before \
                         may be repeated"
                    )
                }
                (Answered::LastRefused, Err(error)) => tracing::warn!(
                    %error,
                    "the last commit was refused; what was settled since the one before may be repeated"
                ),
                _ => {}
            }
        }
    }

    /// A commit that is sent from now on and answered proves that this is a member still.
    pub(crate) fn ask_for_proof(&mut self) {
        self.rules.ask_for_proof();
    }

    /// Whether there was such an answer, or nothing to commit for. Reports it once.
    pub(crate) fn take_proof(&mut self) -> bool {
        self.rules.take_proof()
    }

    /// It is not waited for any longer.
    pub(crate) fn forget_proof(&mut self) {
        self.rules.forget_proof();
    }

    /// Takes in every new commit point, and of those that are given back the last one, without a
    /// mark.
    pub(crate) fn take_last(
        &mut self,
        partitions: &mut [Assigned],
        is_given_back: impl Fn(&Assigned) -> bool,
    ) {
        self.rules
            .last_points(partitions, Assigned::report, is_given_back);
    }

    /// A last commit is due, of a hand-over or of the shutdown. An earlier one is forgotten.
    pub(crate) fn begin_last(&mut self) {
        self.rules.begin_last(self.now());
    }

    /// Whether the last commit of the partitions that are given back is over: the broker has it, or
    /// will never take it from this member. After [`take_last`](Self::take_last).
    pub(crate) fn is_last_over(
        &mut self,
        client: &Client,
        partitions: &mut [Assigned],
        is_given_back: impl Fn(&Assigned) -> bool,
    ) -> bool {
        self.take_answers(client, partitions);
        let now = self.now();
        match self.rules.step_last(partitions, is_given_back, now) {
            LastStep::Wait => false,
            LastStep::Over => true,
            LastStep::Send(last) => match send_last(client, partitions, &last) {
                Ok(()) => false,
                Err(id) => {
                    self.rules.not_sent(id, partitions, now);
                    true
                }
            },
        }
    }

    /// The last commit is no longer waited for. What the broker is not known to have of these
    /// partitions goes out all the same.
    pub(crate) fn end_last(
        &mut self,
        client: &Client,
        partitions: &mut [Assigned],
        is_given_back: impl Fn(&Assigned) -> bool,
    ) {
        let now = self.now();
        if let Some(rest) = self.rules.end_last(partitions, is_given_back) {
            // Refused here it was reported. No answer comes, and later commits must not wait for it.
            if let Err(id) = send_last(client, partitions, &rest) {
                self.rules.not_sent(id, partitions, now);
            }
        }
    }

    fn shrink_metadata(&mut self, partitions: &mut [Assigned]) {
        match self.rules.shrink(partitions) {
            Some(MetadataLimit::WithoutMap) => tracing::warn!(
                "the broker refuses commit metadata of up to {MAX_METADATA_BYTES} bytes \
                 (offset.metadata.max.bytes); committing without the settled-ahead map: more is delivered again \
                 after a restart"
            ),
            Some(MetadataLimit::Nothing) => tracing::warn!(
                "the broker refuses even short commit metadata (offset.metadata.max.bytes); records that kill the \
                 process will not be found"
            ),
            Some(MetadataLimit::All) | None => {}
        }
    }
}

fn send(
    client: &Client,
    partitions: &[Assigned],
    commit: &Outgoing<'_>,
) -> Result<(), (CommitId, CommitRefused)> {
    let points = points(partitions, commit.rows);
    client
        .commit(commit.id, points)
        .map_err(|error| (commit.id, error))
}

fn send_last(
    client: &Client,
    partitions: &[Assigned],
    commit: &Outgoing<'_>,
) -> Result<(), CommitId> {
    for (topic, partition, point) in points(partitions, commit.rows) {
        let (id, position) = (commit.id.get(), point.position.get());
        tracing::debug!(id, topic, partition, position, "the last commit is sent");
    }
    send(client, partitions, commit).map_err(|(id, error)| {
        tracing::warn!(
            %error,
            "the last commit could not be sent; what was settled since the one before may be repeated"
        );
        id
    })
}

/// The owners of these rows wait for the news.
fn confirm(partitions: &[Assigned], marks: &[(usize, Mark)]) {
    for (row, mark) in marks {
        let inbox = &partitions[*row].inbox;
        inbox.order(|orders| orders.marked = orders.marked.max(mark.get()));
    }
}

fn report(client: &Client, refused: Refused, error: CommitRefused) {
    if refused.first {
        tracing::warn!(%error, "a commit that starts wait for is not taken: a mark against poison records, or a proof of membership");
    }
    if refused.lasting {
        client.note_refused_start(error);
    }
}

/// The newest points of these rows.
fn points<'a>(
    partitions: &'a [Assigned],
    rows: &'a [usize],
) -> impl Iterator<Item = (&'a str, i32, &'a CommitPoint)> {
    rows.iter().filter_map(|&row| {
        let partition = &partitions[row];
        let stored = partition.commits.stored()?;
        Some((&*partition.topic, partition.partition, stored))
    })
}

#[cfg(test)]
mod tests;
