//! The one knob of the mock cluster that rdkafka does not wrap: without it the first member of
//! every group waits three seconds.
#![allow(unsafe_code)]

use rdkafka::ClientContext;
use rdkafka::bindings::{
    rd_kafka_handle_mock_cluster, rd_kafka_mock_group_initial_rebalance_delay_ms,
};
use rdkafka::client::Client;

/// Sets how long the mock cluster of `client` waits for more members before a group's first
/// rebalance. Without effect on a client that has no mock cluster.
pub(super) fn set_millis<C: ClientContext>(client: &Client<C>, delay_millis: i32) {
    // SAFETY: `native_ptr` is valid for as long as `client` is borrowed, and librdkafka's functions
    // may be called on it from any thread. The cluster's pointer is either null, which is checked,
    // or valid for as long as the client, which destroys the cluster with itself. The setter takes
    // the cluster's lock and keeps none of its arguments.
    unsafe {
        let cluster = rd_kafka_handle_mock_cluster(client.native_ptr());
        if !cluster.is_null() {
            rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, delay_millis);
        }
    }
}
