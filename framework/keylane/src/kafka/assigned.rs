//! A client that reads partitions that are assigned to it, without a group.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::{Offset, TopicPartitionList};

use super::fetch_queue::{FetchQueue, Forwarding};
use super::message::NativeMessage;
use super::read::Read;
use crate::kafka::config::{ClientSettings, creation_error};

/// The client, and the queue that its records come by. rdkafka's own queue does not say at which
/// offset a partition ended.
pub(super) struct Assigned<C: ConsumerContext + 'static> {
    // Dropped before the client.
    queue: FetchQueue,
    pub(super) client: BaseConsumer<C>,
}

/// Whether its partitions are read at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fetching {
    AtOnce,
    Paused,
}

impl<C: ConsumerContext + Default> Assigned<C> {
    /// Of these partitions of a topic, each from its offset on. One read takes `limit` records at
    /// most.
    pub(super) fn open(
        config: &ClientSettings,
        topic: &str,
        partitions: impl IntoIterator<Item = (i32, Offset)>,
        fetching: Fetching,
        limit: usize,
    ) -> Result<Self, String> {
        let mut client: BaseConsumer<C> = config
            .create_with_context(C::default())
            .map_err(|error| creation_error(error).to_string())?;
        let forwarding = Arc::<Forwarding>::default();
        let queue = FetchQueue::new(&mut client, forwarding.clone(), limit);
        let mut list = TopicPartitionList::new();
        for (partition, from) in partitions {
            list.add_partition_offset(topic, partition, from)
                .map_err(|error| error.to_string())?;
            forwarding.forward(&client, topic, partition);
        }
        let assigned = client.assign(&list).and_then(|()| match fetching {
            Fetching::AtOnce => Ok(()),
            Fetching::Paused => client.pause(&list),
        });
        assigned.map_err(|error| error.to_string())?;
        Ok(Self { queue, client })
    }

    /// Takes what is there, waiting at most `wait` for it.
    pub(super) fn read(&mut self, wait: Duration, take: impl FnMut(&NativeMessage<'_>)) -> Read {
        self.queue.read(&self.client, || false, wait, take)
    }
}
