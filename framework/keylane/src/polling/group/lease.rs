//! Whether it still is a member, where the process stood still.

use keylane_core::Look;

use crate::polling::member::Member;

/// Where the process has stood still nothing starts until the group has answered for this
/// member.
pub(crate) fn look_after_lease(member: &mut Member) {
    match member.client.lease().look() {
        Look::Good => return,
        Look::DoubtBegins => {
            tracing::warn!(
                "the process stood still for a second or more (stopped, suspended, starved of CPU); nothing new \
                 starts until the group confirms that it still is a member"
            );
            member.commits.ask_for_proof();
            return;
        }
        Look::Doubtful if !member.commits.take_proof() => return,
        Look::Doubtful => {
            member.client.lease().confirm();
            tracing::info!("the group has confirmed the membership, or taken it away; going on");
        }
        Look::GaveUp => {
            member.commits.forget_proof();
            tracing::warn!(
                "the group does not confirm the membership (the brokers are away?); going on without"
            );
        }
    }
    for partition in &member.assignment.partitions {
        partition.inbox.order(|orders| orders.confirmed += 1);
    }
}
