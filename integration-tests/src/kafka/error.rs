use std::{io, time::Duration};

/// Why something could not be done with the Kafka of the tests.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HarnessError {
    /// The operation needs the broker's process, and the harness did not start this broker.
    #[error(
        "cannot {doing}: this kafka is external, unset KAFKA_BOOTSTRAP to let the harness start its own"
    )]
    External {
        /// The operation.
        doing: &'static str,
    },
    /// There is no node of that index.
    #[error("there is no node {index}: this kafka has {nodes}, counted from 0")]
    NoSuchNode {
        /// The requested index.
        index: usize,
        /// How many nodes there are.
        nodes: usize,
    },
    /// The node's process is not in the state that the operation needs.
    #[error("cannot {doing} node {index}: it {state}")]
    WrongState {
        /// The operation.
        doing: &'static str,
        /// The node's index.
        index: usize,
        /// What the node is doing instead.
        state: &'static str,
    },
    /// A node's process ended when it should not have.
    #[error("node {index} ended ({status}); its last log lines:\n{log}")]
    NodeEnded {
        /// The node's index.
        index: usize,
        /// The exit status.
        status: String,
        /// The end of its log.
        log: String,
    },
    /// Another process listens on the node's port.
    #[error("node {index} could not listen: a port of it was taken meanwhile")]
    PortTaken {
        /// The node's index.
        index: usize,
    },
    /// The operating system refused something.
    #[error("cannot {doing}: {source}")]
    Io {
        /// The operation.
        doing: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// A command such as `mvn` failed.
    #[error("{command} failed ({status}):\n{output}")]
    Command {
        /// The command, shortened.
        command: String,
        /// The exit status.
        status: String,
        /// The end of its output.
        output: String,
    },
    /// A request to the broker failed.
    #[error("cannot {doing}: {source}")]
    Client {
        /// The operation.
        doing: String,
        /// What the client said.
        source: rdkafka::error::KafkaError,
    },
    /// The awaited state did not come.
    #[error("waited {after:?} in vain until {what}: {last}")]
    Deadline {
        /// The awaited state.
        what: String,
        /// How long it was awaited.
        after: Duration,
        /// What was seen last.
        last: String,
    },
}

impl HarnessError {
    pub(super) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    pub(super) fn client(
        doing: impl Into<String>,
    ) -> impl FnOnce(rdkafka::error::KafkaError) -> Self {
        let doing = doing.into();
        move |source| Self::Client { doing, source }
    }
}
