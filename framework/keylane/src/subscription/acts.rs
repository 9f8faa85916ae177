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
/// survive a restart. An act is logged with who ordered it and why. It is answered by the owner of
/// the partition, within milliseconds, or as soon as an attempt that blocks its thread ends. A call
/// whose future is dropped may be carried out all the same.
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
    /// # Errors
    /// Nothing is assigned, or too many keys are paused.
    pub async fn pause_key(
        &self,
        topic: Option<&str>,
        key: KeyHash,
        note: OperatorNote,
    ) -> Result<usize, ActError> {
        let answers = self
            .act_on_key(topic, note, |answer| ActKind::PauseKey(key, answer))
            .await?;
        let partitions = answers.len();
        let paused: Result<(), ActRefused> = answers.into_iter().collect();
        paused.map_err(|refused| ActError::of(refused, topic.unwrap_or_default(), -1, -1))?;
        Ok(partitions)
    }

    /// Ends a [`pause_key`](Self::pause_key).
    ///
    /// # Errors
    /// Nothing is assigned.
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
    /// partitions or those of one topic. Each has one attempt, which counts as ever. So has a record
    /// that an [outage](crate::config::Outage) holds; if that fails, it is held again. Parked records
    /// stay parked.
    ///
    /// # Errors
    /// Nothing is assigned.
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
    /// the end of its attempt, unless that succeeds; one that was not read yet, when it is. The next
    /// record of its key starts after that.
    ///
    /// # Errors
    /// The partition is not this member's, or the record is settled.
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
    /// There is no dead-letter topic, the partition is not this member's, or the record is not
    /// pending, or is being written.
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
        kind: impl Fn(oneshot::Sender<A>) -> ActKind,
    ) -> Result<Vec<A>, ActError> {
        let note = bounded(&note);
        let takers = self.control.acts.of(topic);
        let mut waits = Vec::with_capacity(takers.len());
        for taker in takers {
            waits.push(send(&*taker, &note, &kind)?);
        }
        let mut answers = Vec::with_capacity(waits.len());
        for wait in waits {
            // A partition that is given up meanwhile has no answer.
            answers.extend(wait.await);
        }
        if answers.is_empty() {
            return Err(ActError::NothingAssigned);
        }
        Ok(answers)
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

fn send<A>(
    taker: &dyn TakesActs,
    note: &OperatorNote,
    kind: &impl Fn(oneshot::Sender<A>) -> ActKind,
) -> Result<oneshot::Receiver<A>, ActError> {
    let (answer, wait) = oneshot::channel();
    let (note, kind) = (note.clone(), kind(answer));
    match taker.take_act(Act { note, kind }) {
        true => Ok(wait),
        false => Err(ActError::TooMany),
    }
}

fn bounded(note: &OperatorNote) -> OperatorNote {
    let cut = |text: &Arc<str>| bounded_text(text, NOTE_LIMIT_BYTES);
    OperatorNote::new(cut(&note.by), cut(&note.why))
}
