//! Throwing a member out of its group, as an operator does with `kafka-consumer-groups` or a broker
//! with one it misses.

use super::{
    Kafka,
    again::request_again,
    client::blocking,
    error::HarnessError,
    request::{Request, no_error_at},
};

const LEAVE_GROUP: i16 = 13;
/// Behind the throttle time.
const ERROR_AT: usize = 4;

impl Kafka {
    /// Makes the coordinator remove the member as if it had left; the member gets that with its
    /// next heartbeat. The group is one of the classic protocol, and the Kafka has one node, which
    /// coordinates all groups.
    ///
    /// # Errors
    /// When the broker refuses it or does not answer.
    pub async fn evict(&self, group: &str, member: &str) -> Result<(), HarnessError> {
        let request = Request::new(LEAVE_GROUP, 1).text(group).text(member);
        let (address, doing) = (
            self.bootstrap_servers.clone(),
            format!("evict {member} from {group}"),
        );
        let evict = move || request_again(|| no_error_at(&request.exchange(&address)?, ERROR_AT));
        blocking(move || evict().map_err(HarnessError::io(doing))).await
    }
}
