//! Carries out what the core decides about commits, marks and the last commit.

use std::time::Instant;

use keylane_core::member::{
    Answered, CommitPoint, Commits as Rules, LastStep, MetadataLimit, Refused, Shrunk,
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
    pub(crate) fn new() -> Self {
        Self {
            rules: Rules::default(),
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

    /// Takes care of the marks that owners wait for. After [`store`](Self::store).
    pub(crate) fn mark(&mut self, client: &Client, partitions: &mut [Assigned]) {
        self.take_answers(client, partitions);
        let given_up = self.rules.given_up_marks(partitions);
        confirm(partitions, given_up);
        let now = self.now();
        let Some(next) = self.rules.next_mark(partitions, now) else {
            return;
        };
        if let Err(error) = client.commit_for_answer(next.id, points(partitions, next.rows)) {
            report(client, self.rules.mark_not_sent(now), error);
        }
    }

    fn take_answers(&mut self, client: &Client, partitions: &mut [Assigned]) {
        while let Some(CommitAnswer { id, result }) = client.commit_answer() {
            let now = self.now();
            let for_rules = result.map_err(CommitRefused::refusal);
            let answered = self.rules.answer(id, for_rules, partitions, now);
            match (answered, result) {
                (Answered::Confirmed(marks), _) => confirm(partitions, marks),
                (Answered::TooLarge, _) => self.shrink_metadata(client, partitions),
                (Answered::Refused(refused), Err(error)) => report(client, refused, error),
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

    /// Stores every new commit point. `suspended`: the client does not commit by itself at present.
    pub(crate) fn store(&mut self, client: &Client, partitions: &mut [Assigned], suspended: bool) {
        self.store_last(client, partitions, suspended, |_| false);
    }

    /// Stores every new commit point, and of those that are given back the last one, without a
    /// mark.
    pub(crate) fn store_last(
        &mut self,
        client: &Client,
        partitions: &mut [Assigned],
        suspended: bool,
        is_given_back: impl Fn(&Assigned) -> bool,
    ) {
        if client.take_metadata_refused() {
            self.shrink_metadata(client, partitions);
        }
        let rules = &mut self.rules;
        let orders = rules.last_points(partitions, suspended, Assigned::report, is_given_back);
        store(client, partitions, orders.store);
        if orders.commit.is_empty() {
            return;
        }
        if let Err(error) = client.commit(points(partitions, orders.commit)) {
            tracing::debug!(%error, "an explicit commit was not taken; the next one covers it");
        }
    }

    /// A last commit is due, of a hand-over or of the shutdown. An earlier one is forgotten.
    pub(crate) fn begin_last(&mut self) {
        self.rules.begin_last(self.now());
    }

    /// Whether the last commit of the partitions that are given back is over: the broker has it, or
    /// will never take it from this member. After [`store_last`](Self::store_last).
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
            LastStep::Send(next) => {
                let sent = client.commit_for_answer(next.id, points(partitions, next.rows));
                let Err(error) = sent else {
                    return false;
                };
                tracing::warn!(
                    %error,
                    "the last commit could not be sent; what was settled since the one before may be repeated"
                );
                self.rules.last_not_sent();
                true
            }
        }
    }

    fn shrink_metadata(&mut self, client: &Client, partitions: &mut [Assigned]) {
        let Shrunk { to, store: again } = self.rules.shrink(partitions);
        match to {
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
        store(client, partitions, again);
    }
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

/// The stored points of these rows.
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

fn store(client: &Client, partitions: &[Assigned], rows: &[usize]) {
    if rows.is_empty() {
        return;
    }
    if let Err(error) = client.store(points(partitions, rows)) {
        // Not assigned any more: its next owner starts from the last commit.
        tracing::debug!(%error, "offsets of a partition that is gone were not stored");
    }
}

#[cfg(test)]
mod tests;
