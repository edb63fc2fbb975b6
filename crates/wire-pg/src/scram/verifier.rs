//! What is stored of a password, and the keys that stand for it.

use std::num::NonZeroU32;

use aws_lc_rs::pbkdf2;
use windlass_core::Result;

use super::maths::{self, DIGEST, Key, decode, decode_key, encode, malformed};

/// Rounds of a verifier that stands for nobody: PostgreSQL's default.
const DEFAULT_ITERATIONS: u32 = 4096;
/// More rounds than anybody asks for; bounds the work that a server can ask of a client with a password.
const MAX_ITERATIONS: u32 = 10_000_000;

/// What a server stores of a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    pub(super) iterations: NonZeroU32,
    pub(super) salt: Vec<u8>,
    pub(super) stored_key: Key,
    pub(super) server_key: Key,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

impl Verifier {
    /// Reads `SCRAM-SHA-256$<rounds>:<salt>$<StoredKey>:<ServerKey>`, as in `pg_authid.rolpassword`.
    ///
    /// # Errors
    /// If it is of another form.
    pub fn parse(stored: &str) -> Result<Self> {
        let parts = || {
            let rest = stored.strip_prefix("SCRAM-SHA-256$")?;
            let (parameters, keys) = rest.split_once('$')?;
            let (iterations, salt) = parameters.split_once(':')?;
            let (stored_key, server_key) = keys.split_once(':')?;
            Some((iterations.parse::<NonZeroU32>().ok()?, salt, stored_key, server_key))
        };
        let Some((iterations, salt, stored_key, server_key)) = parts() else {
            return Err(malformed("not a SCRAM-SHA-256 verifier"));
        };
        Ok(Self {
            iterations,
            salt: decode(salt)?,
            stored_key: decode_key(stored_key)?,
            server_key: decode_key(server_key)?,
        })
    }

    /// The form of [`Verifier::parse`]. Not `Display`, for it is a secret.
    #[must_use]
    pub fn to_string_for_storage(&self) -> String {
        format!(
            "SCRAM-SHA-256${}:{}${}:{}",
            self.iterations,
            encode(&self.salt),
            encode(&self.stored_key),
            encode(&self.server_key)
        )
    }

    /// A verifier that no password fits, the same one whenever the same name is asked for, so that who exists cannot
    /// be told from salts.
    #[must_use]
    pub fn doomed(secret: &[u8], user: &str) -> Self {
        let seed = maths::hmac(secret, user.as_bytes());
        Self {
            iterations: NonZeroU32::new(DEFAULT_ITERATIONS).expect("not zero"),
            salt: seed[..16].to_vec(),
            // A digest of nothing known: to fit it, a client had to invert SHA-256.
            stored_key: maths::hmac(&seed, b"stored"),
            server_key: maths::hmac(&seed, b"server"),
        }
    }

    /// The salt.
    #[must_use]
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// Whether keys that a client proved to have are still the right ones.
    #[must_use]
    pub fn fits(&self, keys: &Keys) -> bool {
        maths::equal(&maths::h(&keys.client), &self.stored_key) && maths::equal(&keys.server, &self.server_key)
    }
}

/// What a client needs to log in, in place of a password. Worth as much as the password at servers with this verifier.
#[derive(Clone)]
pub struct Keys {
    pub(super) client: Key,
    pub(super) server: Key,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys")
    }
}

impl PartialEq for Keys {
    fn eq(&self, other: &Self) -> bool {
        maths::equal(&self.client, &other.client) && maths::equal(&self.server, &other.server)
    }
}

impl Keys {
    /// Keys and verifier of a password, which the caller has normalised by SASLprep if it is not ASCII.
    ///
    /// # Errors
    /// If `iterations` is not 1 to 10,000,000.
    pub fn from_password(password: &[u8], salt: &[u8], iterations: u32) -> Result<(Self, Verifier)> {
        let rounds = NonZeroU32::new(iterations).filter(|n| n.get() <= MAX_ITERATIONS);
        let Some(rounds) = rounds else { return Err(malformed("rounds have to be 1 to 10,000,000")) };
        let mut salted = [0; DIGEST];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, password, &mut salted);
        let client = maths::hmac(&salted, b"Client Key");
        let server = maths::hmac(&salted, b"Server Key");
        let verifier =
            Verifier { iterations: rounds, salt: salt.to_vec(), stored_key: maths::h(&client), server_key: server };
        Ok((Self { client, server }, verifier))
    }
}
