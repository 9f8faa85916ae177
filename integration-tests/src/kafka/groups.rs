//! Consumer groups as the broker describes them.

use rdkafka::consumer::{BaseConsumer, Consumer};

use super::{
    Kafka,
    again::again,
    client::{self, REQUEST, blocking},
    error::HarnessError,
};

/// A group as its coordinator describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The state in Kafka's words: `Stable`, `Empty`, `PreparingRebalance`, `CompletingRebalance`,
    /// `Dead`.
    pub state: String,
    /// The assignor in use; empty for a group without members.
    pub assignor: String,
    /// The members, in no particular order.
    pub members: Vec<Member>,
}

impl Default for Group {
    /// The state of an unknown group.
    fn default() -> Self {
        Self {
            state: "Dead".to_owned(),
            assignor: String::new(),
            members: Vec::new(),
        }
    }
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
    /// The group; an unknown one is `Dead`.
    ///
    /// This works for groups of the classic protocol. A group of `group.protocol=consumer`
    /// (KIP-848) looks `Dead` too, since the client library cannot describe it: there, judge by
    /// what is processed and committed.
    ///
    /// # Errors
    /// When the brokers do not answer.
    pub async fn group(&self, name: &str) -> Result<Group, HarnessError> {
        let (servers, name) = (self.bootstrap_servers.clone(), name.to_owned());
        blocking(move || {
            let doing = format!("describe the group {name}");
            let consumer: BaseConsumer = client::config(&servers)
                .create()
                .map_err(HarnessError::client(doing.clone()))?;
            let list = again(|| consumer.fetch_group_list(Some(&name), REQUEST))
                .map_err(HarnessError::client(doing))?;
            let group = list.groups().iter().find(|group| group.name() == name);
            Ok(group.map_or_else(Group::default, |group| Group {
                state: group.state().to_owned(),
                assignor: group.protocol().to_owned(),
                members: group
                    .members()
                    .iter()
                    .map(|member| Member {
                        id: member.id().to_owned(),
                        client_id: member.client_id().to_owned(),
                    })
                    .collect(),
            }))
        })
        .await
    }
}
