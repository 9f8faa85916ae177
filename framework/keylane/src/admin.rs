//! Creating topics, for examples and set-up code.
