//! Users of SASL/SCRAM.

use openssl::{hash::MessageDigest, pkcs5::pbkdf2_hmac, rand::rand_bytes};

use super::{
    Kafka,
    again::request_again,
    client::blocking,
    error::HarnessError,
    request::{Request, no_error_at},
};

const ALTER_USER_SCRAM_CREDENTIALS: i16 = 51;
const SCRAM_SHA_512: i8 = 2;
/// The least that Kafka takes.
const ITERATIONS: i32 = 4096;

impl Kafka {
    /// Creates a user with this password for SCRAM-SHA-512, or gives an existing one a new
    /// password. Connections that are open stay open.
    ///
    /// # Errors
    /// When the broker refuses it or does not answer.
    pub async fn set_password(&self, user: &str, password: &str) -> Result<(), HarnessError> {
        let (salt, salted) =
            salted(password).map_err(HarnessError::io(format!("salt the password of {user}")))?;
        let request = Request::flexible(ALTER_USER_SCRAM_CREDENTIALS, 0)
            .compact_length(0)
            .compact_length(1)
            .compact(user.as_bytes())
            .int8(SCRAM_SHA_512)
            .int32(ITERATIONS)
            .compact(&salt)
            .compact(&salted)
            .no_tags()
            .no_tags();
        let address = self.any_address();
        // Behind the header's tags, the throttle time, the number of results and the first one's
        // user.
        let error_at = 1 + 4 + 1 + 1 + user.len();
        let set = move || request_again(|| no_error_at(&request.exchange(&address)?, error_at));
        let doing = format!("set the password of {user}");
        blocking(move || set().map_err(HarnessError::io(doing))).await
    }
}

fn salted(password: &str) -> std::io::Result<([u8; 16], [u8; 64])> {
    let (mut salt, mut salted) = ([0; 16], [0; 64]);
    rand_bytes(&mut salt)?;
    let iterations = usize::try_from(ITERATIONS).unwrap_or_default();
    pbkdf2_hmac(
        password.as_bytes(),
        &salt,
        iterations,
        MessageDigest::sha512(),
        &mut salted,
    )?;
    Ok((salt, salted))
}
