//! The client's side, with keys in place of a password.

use windlass_core::Result;

use super::Keys;
use super::attributes::{nonce, take, text};
use super::maths::{self, decode, decode_key, encode, malformed};

/// Says that the client does no channel binding: behind a proxy the certificate would be another one.
const HEADER: &str = "n,,";

/// Before the server's first message.
#[derive(Debug)]
pub struct ClientFirst {
    nonce: String,
}

/// Before the server's last message.
#[derive(Debug)]
pub struct ClientFinal {
    expected: [u8; maths::DIGEST],
}

impl ClientFirst {
    /// Begins; `fresh` is a nonce never used before, of printable characters without comma.
    #[must_use]
    pub fn new(fresh: &str) -> Self {
        Self { nonce: fresh.to_owned() }
    }

    /// The first message. PostgreSQL knows the user from the start of the session, so there is no name in it.
    #[must_use]
    pub fn message(&self) -> String {
        format!("{HEADER}{}", self.bare())
    }

    fn bare(&self) -> String {
        format!("n=,r={}", self.nonce)
    }

    /// Answers the server's first message. The salt in it is not used: it is part of the keys.
    ///
    /// # Errors
    /// If it is malformed or of another exchange.
    pub fn answer(&self, keys: &Keys, message: &[u8]) -> Result<(ClientFinal, String)> {
        let message = text(message)?;
        let mut rest = message;
        let both = nonce(take(&mut rest, 'r')?)?;
        if !both.starts_with(&self.nonce) || both.len() == self.nonce.len() {
            return Err(malformed("it belongs to another exchange"));
        }
        decode(take(&mut rest, 's')?)?;
        take(&mut rest, 'i')?;
        let without_proof = format!("c={},r={both}", encode(HEADER.as_bytes()));
        let signed = format!("{},{message},{without_proof}", self.bare());
        let signature = maths::hmac(&maths::h(&keys.client), signed.as_bytes());
        let proof = maths::xor(&keys.client, &signature);
        let expected = maths::hmac(&keys.server, signed.as_bytes());
        Ok((ClientFinal { expected }, format!("{without_proof},p={}", encode(&proof))))
    }
}

impl ClientFinal {
    /// Checks the server's last message: whether it is the server that has the verifier.
    ///
    /// # Errors
    /// If it is not.
    pub fn check(&self, message: &[u8]) -> Result<()> {
        let mut rest = text(message)?;
        let signature = decode_key(take(&mut rest, 'v')?)?;
        if maths::equal(&signature, &self.expected) {
            Ok(())
        } else {
            Err(malformed("the server does not have this user's verifier"))
        }
    }
}
