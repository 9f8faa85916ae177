//! What runs in processes that tests start, and that end in the middle of their work. The program
//! `member` is made of it.

pub mod operations;
pub mod poison;
