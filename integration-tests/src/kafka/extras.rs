//! What a cluster has beyond the plain one.

/// More listeners and more broker properties than every test broker has.
///
/// The plain listener stays beside them; the harness itself uses that one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extras {
    pub(super) listeners: Vec<(String, String)>,
    pub(super) properties: Vec<(String, String)>,
}

impl Extras {
    /// Members of `group.protocol=consumer` that die are noticed after 5 s, for suites in which
    /// they do.
    pub fn quick_sessions() -> Self {
        Self::default().property("group.consumer.session.timeout.ms", "5000")
    }

    /// For brokers that no test breaks, under load: however busy the machine is, no broker and no
    /// member of `group.protocol=consumer` is taken for dead within a minute.
    pub fn patient() -> Self {
        Self::default()
            .property("broker.session.timeout.ms", "60000")
            .property("group.consumer.session.timeout.ms", "60000")
    }

    /// A listener of this name (capital letters) and protocol (`SSL`, `SASL_SSL`,
    /// `SASL_PLAINTEXT`), on a free port, advertised as `localhost`.
    #[must_use]
    pub fn listener(mut self, name: &str, protocol: &str) -> Self {
        self.listeners.push((name.to_owned(), protocol.to_owned()));
        self
    }

    /// A line for `server.properties`.
    #[must_use]
    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.push((key.into(), value.into()));
        self
    }
}
