//! From the owners' commit points to the client, which commits them.
//!
//! The client commits stored offsets by itself, each half commit interval and with every unassign.
//! Three cases it leaves out: a point whose position has not moved (only its map has), one that
//! lies below an earlier commit, or has an earlier leader epoch (the log was cut or made anew: left
//! where it is, the commit would skip records once the log has grown past it), and anything while a
//! revoke waits for its answer. Those are committed explicitly, without waiting: the client reports
//! no result then, but it can only lose a map, or be repeated by the next stored point, never
//! commit something unsettled (guarantee G4). Marks, which have to be on the broker before records
//! start, are committed with an answer: see `marks.rs`. They are stored as well, or the client's
//! next commit would take them back.

use keylane_core::{MAX_METADATA_BYTES, Position, commit_map};

use super::commit_ids::CommitIds;
use super::last_commit::{Answer, LastCommit};
use super::marks::{Marks, TooLarge};
use crate::kafka::{Client, ClientPosition, CommitAnswer, CommitPoint};
use crate::polling::partitions::Assigned;

pub(crate) struct Commits {
    metadata: Metadata,
    marks: Marks,
    ids: CommitIds,
    /// The latest last commit, and its answer, until that is looked at.
    last: Option<(u64, Option<Answer>)>,
}

/// How much metadata the broker takes: less once it has refused some, for positions matter more
/// than metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Metadata {
    All,
    /// Without the settled-ahead map.
    Evidence,
    Nothing,
}

impl Metadata {
    fn fit(self, point: &mut CommitPoint) {
        match self {
            Self::All => {}
            Self::Evidence => {
                point.metadata =
                    commit_map::without_map(Position::new(point.position), &point.metadata);
            }
            Self::Nothing => point.metadata.clear(),
        }
    }
}

impl Commits {
    pub(crate) fn new() -> Self {
        Self {
            metadata: Metadata::All,
            marks: Marks::new(),
            ids: CommitIds::default(),
            last: None,
        }
    }

    /// Whether an owner waits for the broker's word, or will in a moment.
    pub(crate) fn are_urgent(&self, partitions: &[Assigned]) -> bool {
        self.marks.is_waiting() || partitions.iter().any(Assigned::awaits_mark)
    }

    /// Takes care of the marks that owners wait for. After [`store`](Self::store).
    pub(crate) fn mark(&mut self, client: &Client, partitions: &mut [Assigned]) {
        self.take_answers(client, partitions);
        if self.metadata == Metadata::Nothing {
            self.marks.give_up(partitions);
        }
        self.marks.send(client, partitions, &mut self.ids);
        if let Some(error) = self.marks.take_lasting_refusal() {
            client.note_refused_start(error);
        }
    }

    /// Takes in what was answered. An answer that nothing waits for any longer is left out.
    fn take_answers(&mut self, client: &Client, partitions: &mut [Assigned]) {
        while let Some(CommitAnswer { id, result }) = client.commit_answer() {
            match &mut self.last {
                Some((last, answer)) if *last == id => *answer = Some(result),
                _ => {
                    if self.marks.answered(id, result, partitions).is_err() {
                        self.shrink_metadata(client, partitions);
                    }
                }
            }
        }
    }

    /// A commit that is sent from now on and answered proves that this is a member still.
    pub(crate) fn ask_for_proof(&mut self) {
        self.marks.ask_for_proof();
    }

    /// Whether there was such an answer, or nothing to commit for: then nothing has started, and
    /// what does waits for its mark. Tells it once.
    pub(crate) fn take_proof(&mut self) -> bool {
        self.marks.take_proof()
    }

    /// It is not waited for any more.
    pub(crate) fn forget_proof(&mut self) {
        self.marks.forget_proof();
    }

    /// Stores every new commit point. `suspended`: the client does not commit by itself at present.
    pub(crate) fn store(&mut self, client: &Client, partitions: &mut [Assigned], suspended: bool) {
        if client.take_metadata_refused() {
            self.shrink_metadata(client, partitions);
        }
        let (mut stored, mut explicit) = (Vec::new(), Vec::new());
        for (place, partition) in partitions.iter_mut().enumerate() {
            let Some(mut point) = partition.progress.take_commit_point() else {
                continue;
            };
            self.metadata.fit(&mut point);
            partition.keep_opening(&mut point);
            // An epoch's first point may lie where the last one was committed: the client leaves
            // that out as well.
            let highest = partition.highest.map(|highest| highest.offset);
            let before = partition
                .stored
                .as_ref()
                .map(|stored| stored.position)
                .or(highest);
            let moved = before != Some(point.position);
            if !moved && partition.stored.as_ref() == Some(&point) {
                continue;
            }
            stored.push(place);
            // In a shutdown, which may be cut short.
            let withdrawn = partition
                .stored
                .as_ref()
                .is_some_and(|stored| stored.running)
                && !point.running;
            let at = ClientPosition {
                offset: point.position,
                leader_epoch: point.leader_epoch,
            };
            let back = partition
                .highest
                .is_some_and(|highest| highest.is_after(at));
            partition.highest = Some(at.later(partition.highest));
            partition.stored = Some(point);
            // A mark is committed, and its answer waited for, in a moment.
            if (!moved || back || withdrawn || suspended) && partition.unconfirmed_mark().is_none()
            {
                explicit.push(place);
            }
        }
        store(client, partitions, &stored);
        commit(client, partitions, &explicit);
    }

    /// Stores every new commit point, and what of those that are given back is their last word,
    /// without a mark.
    pub(crate) fn store_last(
        &mut self,
        client: &Client,
        partitions: &mut [Assigned],
        suspended: bool,
        is_given_back: impl Fn(&Assigned) -> bool,
    ) {
        self.store(client, partitions, suspended);
        partitions
            .iter()
            .filter(|partition| is_given_back(partition))
            .for_each(unmark);
        self.store(client, partitions, suspended);
    }

    /// Whether the last word on the partitions that are given back is over, as far as `last_commit`
    /// can know. After [`store_last`](Self::store_last).
    pub(crate) fn is_last_over(
        &mut self,
        last_commit: &mut LastCommit,
        client: &Client,
        partitions: &mut [Assigned],
        is_given_back: impl Fn(&Assigned) -> bool,
    ) -> bool {
        self.take_answers(client, partitions);
        let answer = match &mut self.last {
            Some((id, answer)) if last_commit.is_under_way(*id) => answer.take(),
            _ => None,
        };
        let over = last_commit.is_over(answer, || {
            let mut places = with_a_point(partitions);
            places.retain(|&place| is_given_back(&partitions[place]));
            if places.is_empty() {
                return Ok(None);
            }
            let id = self.ids.next();
            client.commit_for_answer(id, points(partitions, &places))?;
            self.last = Some((id, None));
            Ok(Some(id))
        });
        over.unwrap_or_else(|TooLarge| {
            self.shrink_metadata(client, partitions);
            false
        })
    }

    /// A broker with a smaller `offset.metadata.max.bytes` than Kafka's default refuses such
    /// commits for ever, and with them the client reports every other one as failed.
    fn shrink_metadata(&mut self, client: &Client, partitions: &mut [Assigned]) {
        match self.metadata {
            Metadata::All => {
                self.metadata = Metadata::Evidence;
                tracing::warn!(
                    "the broker refuses commit metadata of up to {MAX_METADATA_BYTES} bytes \
                     (offset.metadata.max.bytes); committing without the settled-ahead map: more is delivered again \
                     after a restart"
                );
            }
            Metadata::Evidence => {
                self.metadata = Metadata::Nothing;
                tracing::warn!(
                    "the broker refuses even short commit metadata (offset.metadata.max.bytes); records that kill the \
                     process will not be found"
                );
            }
            Metadata::Nothing => {}
        }
        for partition in partitions.iter_mut() {
            if let Some(stored) = &mut partition.stored {
                self.metadata.fit(stored);
            }
        }
        let all = with_a_point(partitions);
        store(client, partitions, &all);
    }
}

/// Takes the mark back for owners that have not said their last word: one is blocked by a processor
/// that blocks its thread, or has panicked. The process is alive, and whatever they had goes to the
/// next owner in order.
fn unmark(partition: &Assigned) {
    if let Some(stored) = partition.stored.as_ref().filter(|stored| stored.running) {
        let position = Position::new(stored.position);
        partition.progress.set_commit_point(CommitPoint {
            position: stored.position,
            leader_epoch: stored.leader_epoch,
            metadata: commit_map::without_mark(position, &stored.metadata, MAX_METADATA_BYTES),
            mark: None,
            running: false,
        });
    }
}

/// The places of the partitions that have a commit point.
fn with_a_point(partitions: &[Assigned]) -> Vec<usize> {
    (0..partitions.len())
        .filter(|&place| partitions[place].stored.is_some())
        .collect()
}

fn points<'a>(
    partitions: &'a [Assigned],
    places: &'a [usize],
) -> impl Iterator<Item = (&'a str, i32, &'a CommitPoint)> {
    places.iter().filter_map(|&place| {
        let partition = &partitions[place];
        Some((
            &*partition.topic,
            partition.partition,
            partition.stored.as_ref()?,
        ))
    })
}

fn store(client: &Client, partitions: &[Assigned], places: &[usize]) {
    if places.is_empty() {
        return;
    }
    if let Err(error) = client.store(points(partitions, places)) {
        // Not assigned any more: its next owner starts from the last commit.
        tracing::debug!(%error, "offsets of a partition that is gone were not stored");
    }
}

fn commit(client: &Client, partitions: &[Assigned], places: &[usize]) {
    if places.is_empty() {
        return;
    }
    if let Err(error) = client.commit(points(partitions, places)) {
        tracing::debug!(%error, "an explicit commit was not taken; the next one covers it");
    }
}
