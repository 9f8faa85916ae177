//! embedded_broker
