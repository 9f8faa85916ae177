//! Operators' acts tried dry.

use keylane_core::{ActRefused, KeyOutlook, Offset, OperatorNote};
use tokio::sync::oneshot;

use super::acts::{answers_of, send};
use super::error::ActError;
use super::handle::SubscriptionHandle;
use crate::record::KeyHash;
use crate::status::{ActKind, KeyAct, RecordAct};

/// What the acts of a [`SubscriptionHandle`] would do: by [`SubscriptionHandle::dry_run`].
///
/// Nothing is changed, and nothing is logged. The answer is of the owner of the partition, as that of
/// the act is, and refuses what the act refuses. What runs goes on meanwhile: an act that follows may
/// find something else.
///
/// # Examples
/// ```
/// use keylane::SubscriptionHandle;
/// use keylane::error::ActError;
/// use keylane::subscription::OperatorNote;
///
/// async fn skip_if_alone(handle: &SubscriptionHandle, offset: i64) -> Result<(), ActError> {
///     let found = handle.dry_run().skip("parking-events", 3, offset).await?;
///     if found.of_key.pending == 1 {
///         let note = OperatorNote::new("ann", "INC-7: nothing of its key is behind it");
///         handle.skip("parking-events", 3, offset, note).await?;
///     }
///     Ok(())
/// }
/// # let _ = skip_if_alone;
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "nothing is asked until one of its methods is called"]
pub struct DryRun<'a> {
    handle: &'a SubscriptionHandle,
}

/// A record, as an act on it would find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordOutlook {
    /// When the act would take effect.
    pub time: super::ActTime,
    /// Its attempts until now; `None` where it was not read yet.
    pub attempts: Option<u32>,
    /// The hash of its key; `None` where it has none, or was not read yet.
    pub key_hash: Option<KeyHash>,
    /// The pending records of its key in the partition, itself among them.
    pub of_key: KeyOutlook,
}

impl RecordOutlook {
    /// A record without a key that has had no attempt, for tests.
    pub fn new(time: super::ActTime) -> Self {
        let mut of_key = KeyOutlook::default();
        of_key.pending = 1;
        Self {
            time,
            attempts: Some(0),
            key_hash: None,
            of_key,
        }
    }
}

impl SubscriptionHandle {
    /// What the acts would do, without doing it.
    pub fn dry_run(&self) -> DryRun<'_> {
        DryRun { handle: self }
    }
}

impl DryRun<'_> {
    /// The records that [`pause_key`](SubscriptionHandle::pause_key) would hold: those that run finish.
    ///
    /// # Errors
    /// Those of the act.
    pub async fn pause_key(
        &self,
        topic: Option<&str>,
        key: KeyHash,
    ) -> Result<KeyOutlook, ActError> {
        self.try_key(topic, KeyAct::Pause, key).await
    }

    /// The records that [`resume_key`](SubscriptionHandle::resume_key) would let start. They stay
    /// paused where [`KeyOutlook::is_paused_elsewhere`] says so.
    ///
    /// # Errors
    /// Those of the act.
    pub async fn resume_key(
        &self,
        topic: Option<&str>,
        key: KeyHash,
    ) -> Result<KeyOutlook, ActError> {
        self.try_key(topic, KeyAct::Resume, key).await
    }

    /// The records whose [waiting](KeyOutlook::waiting) would be ended by
    /// [`retry_now`](SubscriptionHandle::retry_now).
    ///
    /// # Errors
    /// Those of the act.
    pub async fn retry_now(
        &self,
        topic: Option<&str>,
        key: KeyHash,
    ) -> Result<KeyOutlook, ActError> {
        self.try_key(topic, KeyAct::RetryNow, key).await
    }

    /// The record that [`skip`](SubscriptionHandle::skip) would give up, and when.
    ///
    /// # Errors
    /// Those of the act.
    pub async fn skip(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<RecordOutlook, ActError> {
        self.try_record(topic, partition, offset, RecordAct::Skip)
            .await
    }

    /// The record that [`dead_letter_now`](SubscriptionHandle::dead_letter_now) would give up, and
    /// when.
    ///
    /// # Errors
    /// Those of the act.
    pub async fn dead_letter_now(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<RecordOutlook, ActError> {
        self.try_record(topic, partition, offset, RecordAct::DeadLetterNow)
            .await
    }

    /// How many records are held because of an outage, and would be given up by
    /// [`release_held`](SubscriptionHandle::release_held) at their next failure.
    pub fn release_held(&self) -> u64 {
        self.handle.status().outage.map_or(0, |outage| outage.held)
    }

    async fn try_key(
        &self,
        topic: Option<&str>,
        act: KeyAct,
        key: KeyHash,
    ) -> Result<KeyOutlook, ActError> {
        let takers = self.handle.control.acts.of(topic);
        let kind = |answer| ActKind::TryKey(act, key, answer);
        let found = answers_of(&takers, &no_note(), &kind).await?;
        let mut all = KeyOutlook::default();
        for it in found {
            all.pending += it.pending;
            all.running += it.running;
            all.waiting += it.waiting;
            all.is_paused |= it.is_paused;
            all.is_paused_elsewhere |= it.is_paused_elsewhere;
        }
        Ok(all)
    }

    async fn try_record(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        act: RecordAct,
    ) -> Result<RecordOutlook, ActError> {
        let of = |refused| ActError::of(refused, topic, partition, offset);
        let gone = || of(ActRefused::Draining);
        let acts = &self.handle.control.acts;
        let taker = acts.find(topic, partition).ok_or_else(gone)?;
        let kind =
            |answer: oneshot::Sender<_>| ActKind::TryRecord(act, Offset::new(offset), answer);
        let found = send(&*taker, &no_note(), &kind)?.await;
        let found = found.map_err(|_| gone())?.map_err(of)?;
        Ok(RecordOutlook {
            time: found.time,
            attempts: found.attempts,
            key_hash: found.key.map(KeyHash::of_number),
            of_key: found.of_key,
        })
    }
}

/// A dry run is not logged.
fn no_note() -> OperatorNote {
    OperatorNote::new("", "")
}
