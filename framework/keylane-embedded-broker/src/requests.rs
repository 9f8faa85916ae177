//! The requests that the mock cluster got, for tests of what has no other visible effect.
#![allow(unsafe_code)]

use rdkafka::ClientContext;
use rdkafka::bindings::{
    rd_kafka_handle_mock_cluster, rd_kafka_mock_get_requests, rd_kafka_mock_request_api_key,
    rd_kafka_mock_request_destroy_array, rd_kafka_mock_start_request_tracking,
};
use rdkafka::client::Client;
use rdkafka::types::RDKafkaApiKey;

/// Starts recording requests.
pub(super) fn remember<C: ClientContext>(client: &Client<C>) {
    // SAFETY: the client is live, and so is its cluster, whose pointer is checked.
    unsafe {
        let cluster = rd_kafka_handle_mock_cluster(client.native_ptr());
        assert!(!cluster.is_null());
        rd_kafka_mock_start_request_tracking(cluster);
    }
}

/// How many of a kind there were.
pub(super) fn count<C: ClientContext>(client: &Client<C>, kind: RDKafkaApiKey) -> usize {
    // SAFETY: the client is live, and so is its cluster, whose pointer is checked. The array holds
    // the returned number of requests, is null without any, and is destroyed after its last use,
    // once.
    unsafe {
        let cluster = rd_kafka_handle_mock_cluster(client.native_ptr());
        assert!(!cluster.is_null());
        let mut length = 0;
        let requests = rd_kafka_mock_get_requests(cluster, &mut length);
        if requests.is_null() {
            return 0;
        }
        let kinds = std::slice::from_raw_parts(requests, length)
            .iter()
            .map(|&one| rd_kafka_mock_request_api_key(one));
        let count = kinds.filter(|&key| key == kind as i16).count();
        rd_kafka_mock_request_destroy_array(requests, length);
        count
    }
}
