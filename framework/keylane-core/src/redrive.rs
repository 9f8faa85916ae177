//! A redrive: which dead letters are copied, in which order, and what of it survives a crash.
//!
//! The shell reads the topic twice. The first pass gives every matching letter to an [`Index`],
//! which makes a [`Plan`] of them. The second pass copies what [`Plan::next`] names, and commits
//! [`Plan::progress`]. The letters' end offsets are taken before the first pass, and stored with the
//! task: what is written later belongs to no run of it, its own copies that failed again included.
//!
//! # Order
//! Copies of one key begin in the order of their origins (topic, partition, offset), one at a time:
//! the next one waits for the acknowledgement of the one before. Letters lie in the order in which
//! records were given up, mostly the same. So the plan keeps the places of a key's letters, and
//! gives them to the same letters in the order of the origin. A *turn* is such a place; turns come
//! in the order of the dead-letter topic's partitions and offsets. A reader that follows the plan
//! reads along the log, and jumps only where a key's letters lie in another order. A letter that
//! names no origin comes after those of its key that do.
//!
//! # Progress
//! Turns are what is committed: for each partition the place of its first turn that is not done, as
//! position, and the turns done behind it as [`SettledMap`](crate::SettledMap). A plan that is made
//! of the same letters has the same turns, so a later run goes on from there. Made of other letters,
//! it does not: that is [`PlanError::Changed`], by a digest over all of them.
//!
//! It is refused also where only letters are gone that were copied before. Such a letter may have
//! been copied in the turn of an earlier place, which is still there: compaction removes any place,
//! and a key may lie in two partitions. With the letter left out, that turn would pass to another
//! letter, and count as done although this one was never copied. To go on safely, the task would have
//! to store its letters, and not only a digest of them.
//!
//! A copy counts as *in flight* from its start until its turn is committed, not only until it is
//! acknowledged. So after a crash at most the window is copied a second time.
//!
//! # Bounds
//! | what | bound |
//! |---|---|
//! | letters of a plan | [`IndexLimits::letters`]; one takes at most [`Index::BYTES_PER_LETTER`] |
//! | copies in flight | [`PlanSettings::window`], at most [`MAX_WINDOW`] |
//! | turns begun behind the first that is not done, in a partition | [`MAX_AHEAD`], so that the map fits into a commit |

mod canary;
mod index;
mod plan;
mod progress;

pub use canary::Canary;
pub use index::{Index, IndexLimits, Letter, LetterOrigin, TooMany};
pub use plan::{Copy, Next, Plan, PlanError, PlanSettings, Stopped, Turn};
pub use progress::{MAX_AHEAD, MAX_WINDOW, PartitionProgress, Progress};

#[cfg(test)]
mod tests;
