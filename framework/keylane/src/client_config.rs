//! client_config
