//! Operators' acts on the keys and records of a running subscription.

use std::sync::Arc;

use keylane_core::{ActRefused, ActTime, Offset, OperatorNote, RetriedNow};
use tokio::sync::oneshot;

use super::error::ActError;
use super::handle::SubscriptionHandle;
use crate::dead_letter::bounded_text;
use crate::record::KeyHash;
use crate::status::{Act, ActKind, TakesActs};

/// Who and why are cut to this length.
const NOTE_LIMIT_BYTES: usize = 200;

/// Whether a key is paused after [`SubscriptionHandle::resume_key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyResumed {
    /// Its records start again.
    Resumed,
    /// It is paused from elsewhere too, for all members.
    StillPaused,
}

/// # Acts on keys and records
/// Each of these is this member's own. It ends with the assignment of the partition, and does not
/// survive a restart. A partition that has no position yet can be acted on: what is ordered holds
/// when it has one. Where its log is cut or re-created, keys stay paused, and skips are void. An act is logged with who ordered it and why. It is answered by the owner of
/// the partition, within milliseconds, or as soon as an attempt that blocks its thread ends. A call
/// whose future is dropped may be carried out all the same. What it would do is said by a
/// [dry run](Self::dry_run). What is to outlast the member's
/// assignment is written to the control topic instead.
impl SubscriptionHandle {
    /// Starts no attempt of this key until [`resume_key`](Self::resume_key); one that runs
    /// finishes. In all assigned partitions, or those of one topic; the retry topic is one of them.
    /// Returns the number of partitions.
    ///
    /// The records of the key stay pending, in their order, and are neither a stall nor a blocker.
    /// They hold the partition's commit, and count for its limits: with a long pause, reading stops
    /// at [`pause_at_records`](crate::config::Limits::pause_at_records) or
    /// [`settled_ahead`](crate::config::Limits::settled_ahead) for *all* its keys.
    ///
    /// # Examples
    /// ```
    /// use keylane::SubscriptionHandle;
    /// use keylane::error::ActError;
    /// use keylane::record::KeyHash;
    /// use keylane::subscription::OperatorNote;
    ///
    /// async fn hold(handle: &SubscriptionHandle) -> Result<(), ActError> {
    ///     let note = OperatorNote::new("ann", "INC-7: its car park is closed");
    ///     handle.pause_key(None, KeyHash::of(b"vehicle-4711"), note).await?;
    ///     Ok(())
    /// }
    /// # let _ = hold;
    /// ```
    ///
    /// What is assigned later is not paused by this: also not a partition that comes back to this
    /// member. The control topic pauses a key for all members, whatever they are assigned.
    ///
    /// # Errors
    /// Nothing is assigned, or too many keys are paused in some partitions. It is paused in the
    /// others then; to call it again does no harm.
    pub async fn pause_key(
        &self,
        topic: Option<&str>,
        key: KeyHash,
        note: OperatorNote,
    ) -> Result<usize, ActError> {
        let answers = self
            .act_on_key(topic, note, |answer| ActKind::PauseKey(key, answer))
            .await?;
        Ok(answers.len())
    }

    /// Ends a [`pause_key`](Self::pause_key).
    ///
    /// # Errors
    /// Nothing is assigned, or too many acts wait for the owners of some partitions.
    pub async fn resume_key(
        &self,
        topic: Option<&str>,
        key: KeyHash,
        note: OperatorNote,
    ) -> Result<KeyResumed, ActError> {
        let still_paused = self
            .act_on_key(topic, note, |answer| ActKind::ResumeKey(key, answer))
            .await?;
        Ok(match still_paused.contains(&true) {
            true => KeyResumed::StillPaused,
            false => KeyResumed::Resumed,
        })
    }

    /// Ends the waiting of this key's records for a back-off or their due time, in all assigned
    /// partitions or those of one topic. Each has one attempt, which counts as any other. So has a record
    /// that an [outage](crate::config::Outage) holds; if that fails, it is held again. The time that
    /// was not waited is no retry time. Parked records stay parked, and those of a paused key or
    /// subscription start when that ends.
    ///
    /// # Errors
    /// Nothing is assigned, or too many acts wait for the owners of some partitions.
    pub async fn retry_now(
        &self,
        topic: Option<&str>,
        key: KeyHash,
        note: OperatorNote,
    ) -> Result<RetriedNow, ActError> {
        let answers = self
            .act_on_key(topic, note, |answer| ActKind::RetryNow(key, answer))
            .await?;
        let mut all = RetriedNow::default();
        for found in answers {
            all.retried += found.retried;
            all.running += found.running;
            all.pending += found.pending;
        }
        Ok(all)
    }

    /// Settles one record without an attempt: **it is given up**. A record that runs is settled at
    /// the end of its attempt, unless that succeeds; one that was not read yet, when it is. One that
    /// is being written is settled if the write fails. A write that failed may have arrived all the
    /// same, and then its copy in the retry topic is processed. The next record of its key starts
    /// after that.
    ///
    /// # Errors
    /// The partition is not this member's, the record is settled, or too many acts or skips wait.
    pub async fn skip(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        note: OperatorNote,
    ) -> Result<ActTime, ActError> {
        self.act_on_record(topic, partition, offset, note, ActKind::Skip)
            .await
    }

    /// Writes one record to the dead-letter topic, with the reason `operator`, and settles it when
    /// that is acknowledged. For a record that runs, at the end of its attempt, unless that
    /// succeeds; for one that is behind others of its key, at its turn. The next record of its key
    /// starts after that.
    ///
    /// # Examples
    /// ```
    /// use keylane::SubscriptionHandle;
    /// use keylane::error::ActError;
    /// use keylane::subscription::OperatorNote;
    ///
    /// /// Gives up each record that a commit has waited for since an hour ago.
    /// async fn clear(handle: &SubscriptionHandle) -> Result<(), ActError> {
    ///     for partition in handle.status().partitions {
    ///         let Some(oldest) = partition.oldest else { continue };
    ///         if oldest.age.as_secs() > 3_600 {
    ///             let note = OperatorNote::new("night job", "older than an hour");
    ///             let (topic, number) = (&partition.topic, partition.partition);
    ///             handle.dead_letter_now(topic, number, oldest.offset, note).await?;
    ///         }
    ///     }
    ///     Ok(())
    /// }
    /// # let _ = clear;
    /// ```
    ///
    /// # Errors
    /// There is no dead-letter topic, the partition is not this member's, the record is not pending or
    /// is being written, or too many acts or such orders wait.
    pub async fn dead_letter_now(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        note: OperatorNote,
    ) -> Result<ActTime, ActError> {
        self.act_on_record(topic, partition, offset, note, ActKind::DeadLetterNow)
            .await
    }

    async fn act_on_key<A>(
        &self,
        topic: Option<&str>,
        note: OperatorNote,
        kind: impl Fn(oneshot::Sender<Result<A, ActRefused>>) -> ActKind,
    ) -> Result<Vec<A>, ActError> {
        answers_of(&self.control.acts.of(topic), &bounded(&note), &kind).await
    }

    async fn act_on_record(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        note: OperatorNote,
        kind: fn(Offset, oneshot::Sender<Result<ActTime, ActRefused>>) -> ActKind,
    ) -> Result<ActTime, ActError> {
        let gone = || ActError::of(ActRefused::Draining, topic, partition, offset);
        let taker = self.control.acts.find(topic, partition).ok_or_else(gone)?;
        let kind = |answer| kind(Offset::new(offset), answer);
        let answer = send(&*taker, &bounded(&note), &kind)?.await;
        answer
            .map_err(|_| gone())?
            .map_err(|refused| ActError::of(refused, topic, partition, offset))
    }
}

/// All of them are asked, whatever one of them answers.
pub(super) async fn answers_of<A>(
    takers: &[Arc<dyn TakesActs>],
    note: &OperatorNote,
    kind: &impl Fn(oneshot::Sender<Result<A, ActRefused>>) -> ActKind,
) -> Result<Vec<A>, ActError> {
    let sent: Vec<_> = takers
        .iter()
        .map(|taker| send(&**taker, note, kind))
        .collect();
    let (mut done, mut refused) = (Vec::with_capacity(sent.len()), 0);
    for sent in sent {
        match sent {
            Err(_) => refused += 1,
            Ok(wait) => match wait.await {
                Ok(Ok(answer)) => done.push(answer),
                // It is given up, or was meanwhile.
                Ok(Err(ActRefused::Draining)) | Err(_) => {}
                Ok(Err(_)) => refused += 1,
            },
        }
    }
    match (done.len(), refused) {
        (0, 0) => Err(ActError::NothingAssigned),
        (_, 0) => Ok(done),
        (done, refused) => Err(ActError::TooMany { done, refused }),
    }
}

pub(super) fn send<A>(
    taker: &dyn TakesActs,
    note: &OperatorNote,
    kind: &impl Fn(oneshot::Sender<A>) -> ActKind,
) -> Result<oneshot::Receiver<A>, ActError> {
    let (answer, wait) = oneshot::channel();
    let (note, kind) = (note.clone(), kind(answer));
    match taker.take_act(Act { note, kind }) {
        true => Ok(wait),
        false => Err(ActError::too_many()),
    }
}

pub(super) fn bounded(note: &OperatorNote) -> OperatorNote {
    let cut = |text: &Arc<str>| bounded_text(text, NOTE_LIMIT_BYTES);
    OperatorNote::new(cut(&note.by), cut(&note.why))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An owner that answers each pause like this; `None` where too many acts wait for it.
    struct Owner(Option<Result<(), ActRefused>>);

    impl TakesActs for Owner {
        fn take_act(&self, act: Act) -> bool {
            let ActKind::PauseKey(_, answer) = act.kind else {
                return false;
            };
            self.0.is_some_and(|paused| answer.send(paused).is_ok())
        }
    }

    async fn paused(owners: &[Option<Result<(), ActRefused>>]) -> Result<usize, ActError> {
        let taker = |&paused| Arc::new(Owner(paused)) as Arc<dyn TakesActs>;
        let takers: Vec<_> = owners.iter().map(taker).collect();
        let kind = |answer| ActKind::PauseKey(KeyHash::of(b"a"), answer);
        let answers = answers_of(&takers, &OperatorNote::new("ann", "INC-7"), &kind).await;
        Ok(answers?.len())
    }

    #[tokio::test]
    async fn an_act_on_a_key_reaches_all_partitions_and_its_error_counts_those_that_refuse() {
        const DONE: Option<Result<(), ActRefused>> = Some(Ok(()));
        const FULL: Option<Result<(), ActRefused>> = Some(Err(ActRefused::TooMany));
        const DRAINS: Option<Result<(), ActRefused>> = Some(Err(ActRefused::Draining));
        assert_eq!(paused(&[DONE, DONE]).await, Ok(2));
        let partly = Err(ActError::TooMany {
            done: 2,
            refused: 2,
        });
        assert_eq!(paused(&[DONE, None, FULL, DRAINS, DONE]).await, partly);
        assert_eq!(paused(&[DRAINS, DONE]).await, Ok(1));
        assert_eq!(paused(&[DRAINS]).await, Err(ActError::NothingAssigned));
    }
}
