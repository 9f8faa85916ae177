//! What may be a name: of a group in the headers of a record.

/// The longest name of a group, or of a member, in a header. Kafka allows more; nobody names them
/// so.
pub(crate) const NAME_LIMIT_BYTES: usize = 255;
