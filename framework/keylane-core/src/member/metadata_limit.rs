//! How much metadata the broker takes.

use super::point::CommitPoint;
use crate::commit_map;

/// How much metadata is committed: less once the broker has refused some, for positions matter more
/// than metadata.
///
/// A broker with a smaller `offset.metadata.max.bytes` than Kafka's default refuses such commits
/// for ever, and with them the client reports every other one as failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetadataLimit {
    /// All of it.
    #[default]
    All,
    /// Without the settled-ahead map.
    WithoutMap,
    /// None at all.
    Nothing,
}

impl MetadataLimit {
    pub(super) fn fit(self, point: &mut CommitPoint) {
        match self {
            Self::All => {}
            Self::WithoutMap => {
                point.metadata = commit_map::without_map(point.position, &point.metadata);
            }
            Self::Nothing => point.metadata.clear(),
        }
    }

    /// The next smaller one, if there is one.
    pub(super) fn smaller(self) -> Option<Self> {
        match self {
            Self::All => Some(Self::WithoutMap),
            Self::WithoutMap => Some(Self::Nothing),
            Self::Nothing => None,
        }
    }
}
