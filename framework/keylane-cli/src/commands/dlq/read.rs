//! Reads dead letters from a command, which is no part of a runtime.

use std::{panic, thread};

use keylane::dead_letter::StoredLetter;
use keylane::redrive::{LetterRange, LettersError};

use crate::Progress;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::progress::Bar;

/// What was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    /// How many records are dead letters.
    pub(super) letters: u64,
    /// How many are none.
    pub(super) others: u64,
    /// Why it ended before the end of the topic.
    pub(super) cut_short: Option<String>,
}

/// Reads these ranges of a topic, or all of it as it is now.
pub(super) fn read(
    connection: &Connection,
    topic: &str,
    ranges: Option<Vec<LetterRange>>,
    progress: Progress,
    take: impl FnMut(StoredLetter) + Send,
) -> Result<Reading, Failure> {
    if keylane_core::check_topic_name(topic).is_err() {
        return Err(Failure::Usage(format!("{topic:?} is no topic's name")));
    }
    let mut builder = connection.letters(topic);
    if let Some(ranges) = ranges {
        builder = builder.ranges(ranges);
    }
    let reading = async move {
        let mut letters = builder.read().await?;
        let lengths = letters.ranges().iter().map(|it| it.end - it.first);
        let total = u64::try_from(lengths.sum::<i64>()).unwrap_or(0);
        let bar = Bar::new(progress, "reading", total);
        let (mut reading, mut take) = (Reading::default(), take);
        while let Some(letter) = letters.next().await {
            match letter {
                Ok(letter) => {
                    reading.letters += 1;
                    take(letter);
                }
                Err(error) => reading.cut_short = Some(error.to_string()),
            }
            bar.set(reading.letters + letters.not_letters());
        }
        reading.others = letters.not_letters();
        Ok::<Reading, LettersError>(reading)
    };
    Ok(block_on(move || reading)??)
}

/// Makes and runs a future on a thread of its own: the caller may be a thread of a runtime, as in
/// tests.
pub(super) fn block_on<T: Send, F: Future<Output = T>>(
    make: impl FnOnce() -> F + Send,
) -> Result<T, Failure> {
    let run = || -> Result<T, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        Ok(runtime?.block_on(async { make().await }))
    };
    match thread::scope(|scope| scope.spawn(run).join()) {
        Ok(done) => done,
        Err(panic) => panic::resume_unwind(panic),
    }
}

impl Reading {
    /// The note below a result: how many letters match, and what else was read.
    pub(super) fn note(&self, matching: u64) -> String {
        let unmatched = self.letters - matching.min(self.letters);
        let mut text = format!("note: {matching} dead letters match");
        if unmatched > 0 {
            text.push_str(&format!(", {unmatched} do not"));
        }
        if self.others > 0 {
            text.push_str(&format!(
                "; {} other records are no dead letters",
                self.others
            ));
        }
        text
    }
}

impl From<LettersError> for Failure {
    fn from(error: LettersError) -> Self {
        match error {
            LettersError::Kafka(error) => Self::Usage(error.to_string()),
            error => Self::Refused(error.to_string()),
        }
    }
}
