//! Consumer groups as the broker describes them.

use rdkafka::consumer::{BaseConsumer, Consumer};

use super::{
    Kafka,
    client::{self, REQUEST, blocking},
    error::HarnessError,
};

/// A group as its coordinator describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The state in Kafka's words: `Stable`, `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Dead`.
    pub state: String,
    /// The assignor in use; empty for a group without members.
    pub assignor: String,
    /// The members, in no particular order.
    pub members: Vec<Member>,
}

/// One member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The id that the coordinator gave out.
    pub id: String,
    /// The member's `client.id`.
    pub client_id: String,
}

impl Kafka {
    /// The group, or `None` when the coordinators know no such group.
    ///
    /// This sees groups of the classic protocol. Members of a `group.protocol=consumer` (KIP-848) group cannot be listed
    /// with this client library: there, judge by what is processed and committed.
    ///
    /// # Errors
    /// When the brokers do not answer within 15 s.
    pub async fn group(&self, name: &str) -> Result<Option<Group>, HarnessError> {
        let (servers, name) = (self.bootstrap_servers.clone(), name.to_owned());
        blocking(move || {
            let doing = format!("describe the group {name}");
            let consumer: BaseConsumer =
                client::config(&servers).create().map_err(HarnessError::client(doing.clone()))?;
            let list = consumer.fetch_group_list(Some(&name), REQUEST).map_err(HarnessError::client(doing))?;
            Ok(list.groups().iter().find(|group| group.name() == name).map(|group| Group {
                state: group.state().to_owned(),
                assignor: group.protocol().to_owned(),
                members: group
                    .members()
                    .iter()
                    .map(|member| Member { id: member.id().to_owned(), client_id: member.client_id().to_owned() })
                    .collect(),
            }))
        })
        .await
    }
}
