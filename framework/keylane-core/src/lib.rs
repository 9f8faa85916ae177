//! The decisions behind keylane, as plain data and functions: no I/O, no clock, no randomness of
//! its own.
//!
//! Events and the current time go in, decisions come out. The shell around it (the `keylane` crate)
//! polls, runs attempts, writes and commits; it holds no policy. Everything here runs the same way
//! twice, which is what the seeded simulator in `tests/` lives on.
//!
//! # The pieces
//! | piece | what it decides |
//! |---|---|
//! | [`Partition`] | everything about one partition in one epoch; made of the pieces below. Start reading here |
//! | [`Snapshot`] | its figures: what status, metrics and health are views of |
//! | lanes | whose turn it is: one record of a key at a time, in offset order |
//! | ledger | which delivered offsets are settled, and so the watermark that may be committed |
//! | [`SettledMap`], [`commit_map`] | which offsets above the watermark are settled, and their form in a commit's metadata |
//! | [`RetryPolicy`], [`Backoff`] | what becomes of a failure: in place, retry topic, dead letter, park, stop |
//! | [`OutageGuard`] | whether a record may be given up, or there is an outage or a bad deployment |
//! | [`PartitionDirectives`] | what operators order of keys and single records |
//! | [`Watchdog`], [`BlockerPolicy`] | which attempts are slow, which partition stands still, and which record holds it up |
//! | [`OwnerWatch`] | whether a partition's owner is blocked |
//! | [`KeySketch`] | which keys have the most records, take the most time, wait longest |
//! | [`Ownership`], [`Groups`] | whose a retry is where groups share a retry topic, and which other groups are alive |
//! | [`Evidence`], [`Mark`] | which record ends the process again and again |
//! | [`member::hand_over`] | when a revoke is answered, and when a shutdown closes the client |
//! | [`LogId`], [`Resume`], [`Identity`] | whether a position is about the log that is there, or its topic was re-created |
//! | [`OffsetReset`] | what an operator's reset repeats and passes over, and the metadata that is true then |
//! | [`member`] | what is committed, how, and what starts wait for; the last commit before a hand-over |
//! | [`control`] | what holds by a group's control topic, and which members run it |
//! | [`redrive`] | which dead letters are written back, in which order, and what of it survives a crash |
//! | [`inbox`] | whether an effect may have been made before, and which entries about it are no longer needed |
//! | [`Budget`] | when to stop fetching and when to go on |
//! | [`Offset`], [`Position`], [`Moment`], [`Epoch`] | numbers that must not be mixed up |
//!
//! # One round of the shell
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use keylane_core::{
//!     Delivered, Delivery, Epoch, MAX_METADATA_BYTES, Moment, Offset, Partition, PartitionSettings, Position, SettledMap,
//!     Success, Verdict,
//! };
//!
//! let settings = Arc::new(PartitionSettings::default());
//! let mut partition = Partition::new(settings, Epoch::new(1), Some(Position::new(40)), SettledMap::new());
//!
//! // Two records of one key, one of another: two lanes.
//! for (offset, key) in [(40, 7), (41, 7), (42, 8)] {
//!     let offset = Offset::new(offset);
//!     let delivery = Delivery { offset, lane: Some(key), bytes: 10, due: None, rounds: 0, attempts: 0, retried_for: Duration::ZERO, record: "…" };
//!     assert_eq!(partition.deliver(delivery, Moment::ORIGIN), Delivered::Queued);
//! }
//! assert!(partition.next_start().is_none(), "the mark comes first");
//! let mark = partition.wanted_mark().expect("nothing has run yet");
//! // The shell commits `commit_metadata` and waits for the broker.
//! partition.mark_confirmed(mark);
//! let first = partition.next_start().map(|start| (start.offset, start.ticket));
//! let second = partition.next_start().map(|start| (start.offset, start.ticket));
//! assert!(partition.next_start().is_none(), "41 waits for 40, which has its key");
//!
//! // 42 finishes first: it is settled ahead of the watermark, and is in the commit's metadata.
//! let (offset, ticket) = second.expect("two lanes");
//! assert_eq!(offset, Offset::new(42));
//! assert!(matches!(partition.succeed(ticket, Success::Done), Verdict::Settled { .. }));
//! assert_eq!(partition.watermark(), Some(Position::new(40)));
//! assert!(partition.commit_metadata(MAX_METADATA_BYTES).text.starts_with("kl1."));
//! assert_eq!(partition.succeed(ticket, Success::Done), Verdict::Stale);
//! ```
//!
//! # Invariants
//! * Whatever is committed with [`Partition::watermark`] lies at or below every unsettled record,
//!   and the metadata names settled offsets only. A write to the retry or dead-letter topic settles
//!   when it is acknowledged, never before.
//! * One record per lane is active (running, waiting, being written or parked); nothing but its
//!   settlement frees the lane.
//! * A [`Ticket`] is good for one answer, in its epoch.
//! * Nothing here waits, and nothing grows but by [`Partition::deliver`].

mod backoff;
mod beginning;
mod budget;
pub mod commit_map;
pub mod control;
mod doubling;
mod elias_gamma;
mod evidence;
mod failed_attempt;
mod failure;
mod foreign;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod hot_keys;
pub mod inbox;
mod lanes;
mod last_retry;
mod lease;
mod ledger;
mod log_id;
pub mod member;
mod offset;
mod offset_reset;
mod outage_guard;
pub mod outbox;
mod owner_watch;
mod partition;
mod paused_by;
pub mod redrive;
mod retry_policy;
mod settled_map;
mod start_question;
mod time;
mod topic_name;
mod troubles;
mod varint;
mod withheld;

pub use backoff::{Backoff, BackoffError, MAX_BACKOFF};
pub use beginning::{Beginning, EMPTIED_AFTER, EmptiedLog, LogRange, PassedOver, Reset, Step};
pub use budget::{Budget, BudgetChange, BudgetError};
pub use commit_map::{About, CommitContent, CommitMetadata, MAX_METADATA_BYTES, MapError};
pub use doubling::Doubling;
pub use evidence::{
    Evidence, GROUP, Instance, MAX_SUSPECTS, Named, POISON_CRASHES, POISON_CRASHES_OF_SURVIVED,
    Suspect,
};
pub use failed_attempt::{ErrorClass, FailedAttempt, Place};
pub use failure::{Failure, MAX_RETRY_AFTER, MIN_RETRY_AFTER, Reason};
pub use foreign::{
    ForeignPolicy, Groups, HeldBecause, Liveness, MAX_GROUPS, Ownership, Provenance,
    QUESTION_PATIENCE, Ruling, Whose,
};
pub use hot_keys::{HALF_LIFE, HeavyKey, KeySketch, SKETCH_CAPACITY, SMALLEST_SHARE};
pub use last_retry::{DecatonRetry, LastRetry, OwnRetry, SpringRetry};
pub use lease::{DOUBT_PATIENCE, LEASE, Lease, Look};
pub use log_id::{Identity, LogId, Resume, Seen};
pub use offset::{Epoch, LeaderEpoch, Offset, Position};
pub use offset_reset::{OffsetReset, SettledAbove};
pub use outage_guard::{
    BAD_DEPLOYMENT_RECORDS, ClassOutage, HeldBy, OUTAGE_LANES, OUTAGE_PATIENCE, OutageGuard,
    OutageSettings, OutageState,
};
pub use owner_watch::{BlockedOwner, OwnerWatch};
pub use partition::{
    ActRefused, ActTime, Activity, Alarm, Blocker, BlockerPolicy, Blocking, Delivered, Delivery,
    FailureHeaders, KeyOutlook, LaneOrder, MARK_PATIENCE, MOST_OWN_ORDERS, Mark,
    NEARLY_ALL_PERCENT, NEARLY_FULL_PERCENT, Oldest, OperatorNote, ParkReason, Partition,
    PartitionDirectives, PartitionSettings, Paused, PendingView, PoisonFate, Poisoned, Publish,
    PublishRequest, PublishResult, RecordOutlook, RecordState, RetriedNow, RetryTier,
    SUSPECT_PATIENCE, Settlement, SkipOrder, Snapshot, Start, Success, Ticket, Verdict, Wait,
    WaitingFor, Watchdog,
};
pub use paused_by::{EpisodeNews, Fill, LimitsSeen, NotDueEpisode, PausedBy};
pub use retry_policy::{
    Exhausted, InPlace, LEAST_ATTEMPTS, LongestRetry, ReasonActions, RetryPolicy, TopicRetry,
};
pub use settled_map::{SettledMap, SettledRange};
pub use start_question::{StartQuestion, StartSigns};
pub use time::Moment;
pub use topic_name::check_topic_name;
pub use troubles::{MOST_TROUBLES, Noted, Over, Sign, Troubles};
pub use withheld::{Behind, Rest, WITHHELD_AFTER, Withheld, WithheldNews};
