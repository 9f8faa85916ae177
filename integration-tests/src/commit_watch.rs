//! Commits as they are seen from outside, one look after the other: none may go back.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;

use crate::{
    kafka::{Committed, HarnessError, Kafka},
    protocol::Protocol,
};

/// Within this time a commit that was sent again is followed by newer ones.
const MADE_GOOD: Duration = Duration::from_secs(10);

type Look = (Instant, Vec<Committed>);

/// Looks again and again at what a group has committed for a topic.
#[derive(Debug)]
pub struct CommitWatch {
    kafka: &'static Kafka,
    group: String,
    topic: String,
    looks: Arc<Mutex<Vec<Look>>>,
    task: JoinHandle<()>,
}

impl CommitWatch {
    /// Begins to look.
    pub fn start(kafka: &'static Kafka, group: &str, topic: &str) -> Self {
        let (group, topic) = (group.to_owned(), topic.to_owned());
        let looks: Arc<Mutex<Vec<Look>>> = Arc::default();
        let task = tokio::spawn({
            let (looks, group, topic) = (looks.clone(), group.clone(), topic.clone());
            async move {
                loop {
                    if let Ok(committed) = kafka.committed(&group, &topic).await {
                        looks
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push((Instant::now(), committed));
                    }
                }
            }
        });
        Self {
            kafka,
            group,
            topic,
            looks,
            task,
        }
    }

    /// Takes a last look; returns how many there were, and the steps back among them, in words.
    ///
    /// # Errors
    /// As [`Kafka::committed`].
    pub async fn steps_back(
        self,
        protocol: Protocol,
    ) -> Result<(usize, Vec<String>), HarnessError> {
        self.task.abort();
        let last = (
            Instant::now(),
            self.kafka.committed(&self.group, &self.topic).await?,
        );
        let mut looks =
            std::mem::take(&mut *self.looks.lock().unwrap_or_else(PoisonError::into_inner));
        looks.push(last);
        Ok((looks.len(), steps_back(&looks, protocol)))
    }
}

/// Where a commit crosses a change of the member's epoch (KIP-848) the client sends it again,
/// perhaps after a newer one. That only repeats work, and only until the newer state is committed
/// again with what follows.
fn steps_back(looks: &[Look], protocol: Protocol) -> Vec<String> {
    let mut steps = Vec::new();
    for (index, pair) in looks.windows(2).enumerate() {
        let ((_, before), (at, after)) = (&pair[0], &pair[1]);
        for (partition, (earlier, later)) in before.iter().zip(after).enumerate() {
            let mut soon = looks[index + 2..]
                .iter()
                .take_while(|(then, _)| *then <= *at + MADE_GOOD);
            let mut is_made_good =
                || soon.any(|(_, look)| look[partition].offset >= earlier.offset);
            let goes_back = later.offset < earlier.offset;
            if goes_back && !(protocol == Protocol::Consumer && is_made_good()) {
                steps.push(format!("a commit went back: {earlier:?}, then {later:?}"));
            }
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::{Committed, Duration, Instant, Protocol, steps_back};

    #[test]
    fn a_step_back_is_found_unless_it_is_one_of_the_consumer_protocol_that_is_made_good_soon() {
        let began = Instant::now();
        let looks = |offsets: &[(u64, i64)]| {
            let look = |&(second, offset)| {
                let committed = Committed {
                    partition: 0,
                    offset: Some(offset),
                    metadata: String::new(),
                };
                (began + Duration::from_secs(second), vec![committed])
            };
            offsets.iter().map(look).collect::<Vec<_>>()
        };
        let steps = |offsets: &[(u64, i64)]| {
            [Protocol::Cooperative, Protocol::Consumer]
                .map(|protocol| steps_back(&looks(offsets), protocol).len())
        };
        assert_eq!(steps(&[(0, 3), (1, 3), (2, 5)]), [0, 0]);
        assert_eq!(steps(&[(0, 3), (1, 2), (2, 3)]), [1, 0]);
        assert_eq!(steps(&[(0, 3), (1, 2), (2, 2)]), [1, 1]);
        assert_eq!(steps(&[(0, 3), (1, 2), (20, 4)]), [1, 1]);
    }
}
