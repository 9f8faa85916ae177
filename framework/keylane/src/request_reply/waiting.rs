//! Which questions wait for their answers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use tokio::sync::oneshot;

use super::{AskError, CORRELATION_ID};
use crate::record::{Record, message_id};
use crate::support::lock::lock;

/// The questions of one requester.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Names the requester in the ids of its questions: others read the same partition.
    requester: String,
    limit: usize,
    state: Mutex<State>,
    late: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// Nothing is read any longer.
    ended: bool,
    answers: HashMap<u64, oneshot::Sender<Record>>,
}

/// A question that waits, until it is dropped.
pub(super) struct Question {
    waiting: Arc<Waiting>,
    number: u64,
    pub(super) answer: oneshot::Receiver<Record>,
}

impl Waiting {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            requester: message_id::generate(SystemTime::now()),
            limit,
            state: Mutex::default(),
            late: AtomicU64::new(0),
        }
    }

    pub(super) fn register(self: &Arc<Self>) -> Result<Question, AskError> {
        let mut state = lock(&self.state);
        if state.ended {
            return Err(AskError::Ended);
        }
        if state.answers.len() >= self.limit {
            let limit = self.limit;
            return Err(AskError::TooManyWaiting { limit });
        }
        let number = state.next;
        state.next += 1;
        let (sender, answer) = oneshot::channel();
        state.answers.insert(number, sender);
        Ok(Question {
            waiting: self.clone(),
            number,
            answer,
        })
    }

    /// Takes in a record of the partition. What is not the first answer to a question that still
    /// waits is late.
    pub(super) fn take(&self, record: Record) {
        let id = record.headers().last_str(CORRELATION_ID);
        let Some(number) = id.and_then(|id| self.number(id)) else {
            return;
        };
        let asker = lock(&self.state).answers.remove(&number);
        if asker.is_none_or(|asker| asker.send(record).is_err()) {
            self.late.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Of a question of this requester.
    fn number(&self, id: &str) -> Option<u64> {
        id.strip_prefix(&*self.requester)?
            .strip_prefix('/')?
            .parse()
            .ok()
    }

    /// No answer comes any longer: those who wait get to know it.
    pub(super) fn end(&self) {
        let mut state = lock(&self.state);
        state.ended = true;
        state.answers.clear();
    }

    pub(super) fn late(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }

    pub(super) fn len(&self) -> usize {
        lock(&self.state).answers.len()
    }
}

impl Question {
    pub(super) fn id(&self) -> String {
        format!("{}/{}", self.waiting.requester, self.number)
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        lock(&self.waiting.state).answers.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Headers;
    use crate::testing::TestTask;

    fn answer(id: &str) -> Record {
        let headers: Headers = [(CORRELATION_ID, id.to_owned())].into_iter().collect();
        TestTask::new(()).headers(headers).build().record().clone()
    }

    #[test]
    fn an_answer_reaches_its_question_once_and_is_late_afterwards() {
        let (waiting, other) = (Arc::new(Waiting::new(2)), Arc::new(Waiting::new(2)));
        let [mut first, second] = [(); 2].map(|()| waiting.register().unwrap());
        assert!(matches!(
            waiting.register(),
            Err(AskError::TooManyWaiting { limit: 2 })
        ));
        waiting.take(answer(&first.id()));
        assert!(first.answer.try_recv().is_ok());
        assert_eq!((waiting.len(), waiting.late()), (1, 0));
        waiting.take(answer(&first.id()));
        let id = second.id();
        drop(second);
        waiting.take(answer(&id));
        assert_eq!((waiting.len(), waiting.late()), (0, 2));

        // Others' answers, and what is none, are of no concern.
        waiting.take(answer(&other.register().unwrap().id()));
        waiting.take(answer("nonsense"));
        waiting.take(TestTask::new(()).build().record().clone());
        assert_eq!(waiting.late(), 2);
    }

    #[tokio::test]
    async fn those_who_wait_get_to_know_that_no_answer_comes() {
        let waiting = Arc::new(Waiting::new(2));
        let mut question = waiting.register().unwrap();
        waiting.end();
        assert!((&mut question.answer).await.is_err());
        assert!(matches!(waiting.register(), Err(AskError::Ended)));
    }
}
