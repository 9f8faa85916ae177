//! A Kafka behind TLS, SASL and ACLs.
//!
//! Three listeners beside the plain one, which only the harness uses (as super user): `TLS` demands
//! a client certificate, whose common name is the user; `SCRAM` demands a user and a password over
//! TLS; `REAUTH` is the same and asks for the password again every few seconds. Nobody may do
//! anything that a test did not [allow](Kafka::allow).

use std::{collections::BTreeMap, io, ops::Deref};

use crate::{
    certificates::Authority,
    kafka::{Extras, Kafka, Nodes, own_with},
};

/// Client settings by name.
pub type Settings = BTreeMap<String, String>;

/// The Kafka and the authority it trusts.
#[derive(Debug)]
pub struct SecureKafka {
    kafka: Kafka,
    authority: Authority,
}

impl SecureKafka {
    /// Starts one for the calling test binary; `None` means: skip, the reason has been printed.
    ///
    /// # Panics
    /// When the certificates cannot be made. With `CI=true`, when Kafka cannot be started.
    pub fn start() -> Option<Self> {
        let (authority, extras) = prepare().expect("certificates can be made");
        Some(Self {
            kafka: own_with(Nodes::One, &extras)?,
            authority,
        })
    }

    /// Where the listener of this name is.
    ///
    /// # Panics
    /// When there is none of this name.
    pub fn at(&self, listener: &str) -> String {
        self.kafka
            .listener(listener)
            .expect("the listener is one of those above")
    }

    /// The authority that signed the broker's certificate, and whose clients the broker trusts.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// TLS settings without a client certificate.
    ///
    /// # Panics
    /// When OpenSSL fails.
    pub fn trusting(&self) -> Settings {
        let authority = self.authority.pem().expect("a certificate has a PEM form");
        settings(&[("security.protocol", "ssl"), ("ssl.ca.pem", &authority)])
    }

    /// TLS settings with a client certificate for `user`.
    ///
    /// # Panics
    /// When OpenSSL fails.
    pub fn tls(&self, user: &str) -> Settings {
        let identity = self
            .authority
            .issue(user, None)
            .expect("a certificate can be issued");
        let certificate = identity
            .certificate_pem()
            .expect("a certificate has a PEM form");
        let key = identity.key_pem().expect("a key has a PEM form");
        let mut settings = self.trusting();
        settings.insert("ssl.certificate.pem".into(), certificate);
        settings.insert("ssl.key.pem".into(), key);
        settings
    }

    /// SASL_SSL settings.
    ///
    /// # Panics
    /// When OpenSSL fails.
    pub fn scram(&self, user: &str, password: &str) -> Settings {
        let mut all = self.trusting();
        all.extend(settings(&[
            ("security.protocol", "sasl_ssl"),
            ("sasl.mechanisms", "SCRAM-SHA-512"),
            ("sasl.username", user),
            ("sasl.password", password),
        ]));
        all
    }
}

impl Deref for SecureKafka {
    type Target = Kafka;

    fn deref(&self) -> &Kafka {
        &self.kafka
    }
}

fn prepare() -> io::Result<(Authority, Extras)> {
    let authority = Authority::new("keylane test authority")?;
    let broker = authority.issue("broker", Some("localhost"))?;
    let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
    let mut extras = Extras::default()
        .listener("TLS", "SSL")
        .listener("SCRAM", "SASL_SSL")
        .listener("REAUTH", "SASL_SSL")
        .property("ssl.keystore.type", "PEM")
        .property("ssl.keystore.key", one_line(&broker.key_pem()?))
        .property(
            "ssl.keystore.certificate.chain",
            one_line(&broker.certificate_pem()?),
        )
        .property("ssl.truststore.type", "PEM")
        .property("ssl.truststore.certificates", one_line(&authority.pem()?))
        .property("listener.name.tls.ssl.client.auth", "required")
        .property(
            "listener.name.tls.ssl.principal.mapping.rules",
            "RULE:^CN=(.*)$/$1/",
        )
        .property("sasl.enabled.mechanisms", "SCRAM-SHA-512")
        .property(
            "listener.name.reauth.scram-sha-512.connections.max.reauth.ms",
            "4000",
        )
        .property(
            "authorizer.class.name",
            "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        )
        // Who comes by the plain listener: the harness and the broker itself.
        .property("super.users", "User:ANONYMOUS");
    for listener in ["scram", "reauth"] {
        extras = extras.property(
            format!("listener.name.{listener}.scram-sha-512.sasl.jaas.config"),
            scram,
        );
    }
    Ok((authority, extras))
}

/// As a value in a Java properties file.
fn one_line(pem: &str) -> String {
    pem.replace('\n', "\\n")
}

fn settings(pairs: &[(&str, &str)]) -> Settings {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}
