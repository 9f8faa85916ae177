//! Transactions on an embedded broker. It has no transactions: what is in an aborted one is seen.

use std::sync::Arc;
use std::time::Duration;

use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions};
use rdkafka::producer::Producer;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::{TransactionError, Transactions};
use crate::Headers;
use crate::producer::outgoing::OutgoingRecord;

#[test]
fn a_commit_whose_answer_is_lost_is_neither_aborted_nor_done_again() {
    let broker = EmbeddedBroker::start(EmbeddedBrokerOptions::default()).unwrap();
    broker.create_topic("retry", 1).unwrap();
    let servers = broker.bootstrap_servers();
    let patience = Duration::from_secs(60);
    let taken = Transactions::take(servers, &Default::default(), "lock", patience);
    let mut transactions = taken.unwrap();
    let record = OutgoingRecord {
        topic: Arc::from("retry"),
        partition: Some(0),
        key: None,
        value: Some("x".into()),
        headers: Headers::new(),
        timestamp_millis: None,
    };
    transactions.write(&[&record]).unwrap();
    let end = |transactions: &Transactions| {
        let client = transactions.producer.client();
        client.fetch_watermarks("retry", 0, patience).unwrap().1
    };
    assert_eq!(end(&transactions), 1);

    let loads = RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS;
    let cluster = broker.cluster();
    cluster.request_errors(RDKafkaApiKey::EndTxn, &[loads; 10_000]);
    // One call of the client.
    transactions.patience = Duration::ZERO;
    let error = transactions.write(&[&record]).unwrap_err();
    assert!(matches!(error, TransactionError::Unanswered(_)), "{error}");
    cluster.clear_request_errors(RDKafkaApiKey::EndTxn);
    assert_eq!(end(&transactions), 2, "it is written once");
}
