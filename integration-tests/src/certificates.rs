//! Certificates for one test run, from an authority of its own.

use std::{fmt, io};

use openssl::{
    asn1::Asn1Time,
    bn::{BigNum, MsbOption},
    ec::{EcGroup, EcKey},
    error::ErrorStack,
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private},
    symm::Cipher,
    x509::{
        X509, X509Builder, X509Name, X509NameBuilder,
        extension::{BasicConstraints, SubjectAlternativeName},
    },
};

/// Signs certificates; only clients that are configured with it trust it.
pub struct Authority {
    key: PKey<Private>,
    certificate: X509,
}

/// A certificate with its private key.
pub struct Identity {
    key: PKey<Private>,
    certificate: X509,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// A new authority with a new key.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn new(name: &str) -> io::Result<Self> {
        let key = key()?;
        let mut builder = unsigned(&common_name(name)?, &key)?;
        let own_name = common_name(name)?;
        builder.set_issuer_name(&own_name)?;
        builder.append_extension(BasicConstraints::new().critical().ca().build()?)?;
        builder.sign(&key, MessageDigest::sha256())?;
        Ok(Self {
            key,
            certificate: builder.build(),
        })
    }

    /// A certificate for the subject `CN=name`; a broker's also names the host that it is for.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn issue(&self, name: &str, host: Option<&str>) -> io::Result<Identity> {
        let key = key()?;
        let mut builder = unsigned(&common_name(name)?, &key)?;
        builder.set_issuer_name(self.certificate.subject_name())?;
        if let Some(host) = host {
            let context = builder.x509v3_context(Some(&self.certificate), None);
            let extension = SubjectAlternativeName::new().dns(host).build(&context)?;
            builder.append_extension(extension)?;
        }
        builder.sign(&self.key, MessageDigest::sha256())?;
        Ok(Identity {
            key,
            certificate: builder.build(),
        })
    }

    /// What others need to trust it.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn pem(&self) -> io::Result<String> {
        text(self.certificate.to_pem()?)
    }
}

impl Identity {
    /// The certificate.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn certificate_pem(&self) -> io::Result<String> {
        text(self.certificate.to_pem()?)
    }

    /// The private key, in the clear.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn key_pem(&self) -> io::Result<String> {
        text(self.key.private_key_to_pem_pkcs8()?)
    }

    /// The private key, encrypted by a password.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn encrypted_key_pem(&self, password: &str) -> io::Result<String> {
        text(
            self.key
                .private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), password.as_bytes())?,
        )
    }
}

fn key() -> Result<PKey<Private>, ErrorStack> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    PKey::from_ec_key(EcKey::generate(&group)?)
}

fn common_name(name: &str) -> Result<X509Name, ErrorStack> {
    let mut builder = X509NameBuilder::new()?;
    builder.append_entry_by_text("CN", name)?;
    Ok(builder.build())
}

fn unsigned(subject: &X509Name, key: &PKey<Private>) -> Result<X509Builder, ErrorStack> {
    let mut serial = BigNum::new()?;
    serial.rand(127, MsbOption::MAYBE_ZERO, false)?;
    let (from, until, serial) = (
        Asn1Time::days_from_now(0)?,
        Asn1Time::days_from_now(2)?,
        serial.to_asn1_integer()?,
    );
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    builder.set_serial_number(&serial)?;
    builder.set_subject_name(subject)?;
    builder.set_pubkey(key)?;
    builder.set_not_before(&from)?;
    builder.set_not_after(&until)?;
    Ok(builder)
}

fn text(pem: Vec<u8>) -> io::Result<String> {
    String::from_utf8(pem).map_err(io::Error::other)
}
