//! framework/keylane-core
