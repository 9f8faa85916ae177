//! What can be chosen about an embedded broker.

/// More brokers than this show nothing new; each costs threads and sockets.
pub(super) const MOST_BROKERS: u8 = 16;
/// Far beyond any test; keeps a slip of the finger from taking the memory.
pub(super) const MOST_PARTITIONS: i32 = 10_000;

/// What an [`EmbeddedBroker`](super::EmbeddedBroker) consists of.
///
/// ```
/// # use keylane_embedded_broker::EmbeddedBrokerOptions;
/// let three = EmbeddedBrokerOptions::default().brokers(3);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EmbeddedBrokerOptions {
    /// The number of brokers, 1 to 16; 1 by default. One is two to four times as fast to consume
    /// from as three.
    pub brokers: u8,
    /// What happens when records are dropped unread; [`EvictionGuard::RefuseWrites`] by default.
    pub eviction_guard: EvictionGuard,
}

impl Default for EmbeddedBrokerOptions {
    fn default() -> Self {
        Self {
            brokers: 1,
            eviction_guard: EvictionGuard::default(),
        }
    }
}

impl EmbeddedBrokerOptions {
    /// Sets [`brokers`](Self#structfield.brokers).
    #[must_use]
    pub const fn brokers(self, brokers: u8) -> Self {
        Self { brokers, ..self }
    }

    /// Sets [`eviction_guard`](Self#structfield.eviction_guard).
    #[must_use]
    pub const fn eviction_guard(self, eviction_guard: EvictionGuard) -> Self {
        Self {
            eviction_guard,
            ..self
        }
    }
}

/// What an embedded broker does when it dropped records that a reader had not committed.
///
/// # Examples
/// ```
/// use keylane_embedded_broker::{EmbeddedBroker, EmbeddedBrokerOptions, EvictionGuard};
///
/// let options = EmbeddedBrokerOptions::default().eviction_guard(EvictionGuard::Report);
/// let broker = EmbeddedBroker::start(options)?;
/// # drop(broker);
/// # Ok::<(), keylane_embedded_broker::EmbeddedBrokerError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum EvictionGuard {
    /// Log it, list it, and fail later writes (100,000 batches) to any topic with a policy
    /// violation, which clients do not retry. So the producer gets an error, and a run with a loss
    /// cannot succeed.
    #[default]
    RefuseWrites,
    /// Log it and list it.
    Report,
    /// Do not watch. For measurements that count their records themselves.
    Off,
}
