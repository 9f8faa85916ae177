//! A redrive: which dead letters are copied, in which order, and when.
//!
//! The shell reads the topic twice. The first pass gives every matching letter to an [`Index`],
//! which becomes an [`Order`]. The order is stored with the task, so that a later run does not make
//! it again: letters that are gone by then are counted, and change no other letter's place. The
//! second pass copies what [`Run::next`] names, in the order, and stores how many are done in the
//! same transaction as their copies. The letters' end offsets are taken before the first pass: what
//! is written later belongs to no run of the task, its own copies that failed again included.
//!
//! # Order
//! Copies of one key whose records came from one partition of a topic are written in the order of
//! their offsets there. Letters lie in the order in which records were given up, mostly the same. So
//! the order keeps the places of such letters, and gives them to the same letters in the order of the
//! origin. Between origins it keeps the order of the letters, as no consumer has seen another one; so
//! a letter stays near its place though several topics share the dead-letter topic. A *turn* is such a
//! place; turns come in the order of the dead-letter topic's partitions and offsets. A reader that
//! follows the order reads along the log, and jumps only where a key's letters lie in another order.
//! A letter that names no origin keeps its place.
//!
//! # Bounds
//! | what | bound |
//! |---|---|
//! | letters of an index | [`IndexLimits::letters`]; one takes at most [`Index::BYTES_PER_LETTER`] |
//! | bytes of a chunk of an order | [`MAX_CHUNK_BYTES`] |
//! | copies of a transaction | [`RunSettings::window`], at most [`MAX_WINDOW`] |
//! | copies of a canary | [`MAX_CANARY`] |

mod canary;
mod index;
mod order;
mod run;

pub use canary::{Canary, MAX_CANARY, Outcomes, Verdict};
pub use index::{Index, IndexLimits, Letter, LetterOrigin, TooMany};
pub use order::{MAX_CHUNK_BYTES, Order, OrderError, Turn};
pub use run::{MAX_WINDOW, Next, Run, RunSettings, Stopped};

#[cfg(test)]
mod tests;
