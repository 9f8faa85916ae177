//! Which names of groups are valid in the headers of a record.

/// The longest name of a group, or of a member, in a header. Kafka allows longer ones, which do not
/// occur in practice.
pub(crate) const NAME_LIMIT_BYTES: usize = 255;
