//! Processors that write the journal.

use std::{
    future::Future,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use bytes::Bytes;
use keylane::{Processor, Task, TaskError};

use crate::{
    journal::{Journal, Work},
    load::id,
};

/// The journal's view of an attempt that `member` makes.
pub fn work(member: &str, task: &Task<Bytes>) -> Work {
    Work {
        member: member.to_owned(),
        topic: task.topic().to_owned(),
        partition: task.partition(),
        offset: task.offset(),
        key: task.key().map(<[u8]>::to_vec),
        id: id(task.topic(), task.payload()),
        attempt: task.attempt(),
    }
}

/// A processor that does `work` for every task and notes beginning and end under the name of
/// `member`. An attempt whose future is dropped, or panics, is noted as cut off.
pub fn journaled<F, Fut>(journal: &Journal, member: &str, process: F) -> impl Processor<Bytes>
where
    F: Fn(Task<Bytes>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), TaskError>> + Send,
{
    let (journal, member) = (journal.clone(), member.to_owned());
    move |task: Task<Bytes>| {
        let running = journal.started(work(&member, &task));
        let attempt = process(task);
        async move { running.returned(attempt.await) }
    }
}

/// The number that is the value of a record.
///
/// # Panics
/// When it is none.
pub fn number(task: &Task<Bytes>) -> usize {
    number_of(&String::from_utf8_lossy(task.payload()))
}

/// The number that is the value of a record with this id. Values may be made large with spaces.
///
/// # Panics
/// When it is none.
pub fn number_of(id: &str) -> usize {
    let value = id.rsplit('/').next().unwrap_or_default().trim();
    value
        .parse()
        .unwrap_or_else(|_| panic!("{id:?} ends with no number"))
}

/// Between 0 and `max`, spread over the records as if by chance, and the same for a record each
/// time.
pub fn spread(task: &Task<Bytes>, max: Duration) -> Duration {
    let mut hasher = DefaultHasher::new();
    (task.topic(), task.partition(), task.offset()).hash(&mut hasher);
    max.mul_f64((hasher.finish() % 1_001) as f64 / 1_000.0)
}
