//! The server's side: two messages in, two out.

use aws_lc_rs::digest;
use windlass_core::Result;

use super::attributes::{nonce, take, text};
use super::maths::{self, decode, decode_key, encode, malformed};
use super::{Keys, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, Verifier};

const END_POINT: &str = "tls-server-end-point";

/// What the connection can be bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// Nothing; only [`SCRAM_SHA_256`] is offered.
    None,
    /// The hash of the server's certificate (RFC 5929, `tls-server-end-point`); both mechanisms are offered.
    EndPoint(Vec<u8>),
}

/// The hash that a certificate is bound by: that of its own signature, but SHA-256 in place of a weaker one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateHash {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Binding {
    /// To a certificate in DER.
    #[must_use]
    pub fn to_certificate(der: &[u8], hash: CertificateHash) -> Self {
        let algorithm = match hash {
            CertificateHash::Sha256 => &digest::SHA256,
            CertificateHash::Sha384 => &digest::SHA384,
            CertificateHash::Sha512 => &digest::SHA512,
        };
        Self::EndPoint(digest::digest(algorithm, der).as_ref().to_vec())
    }
}

/// After the client's first message.
#[derive(Debug)]
pub struct ServerFirst<'v> {
    verifier: &'v Verifier,
    /// What `c=` has to carry.
    channel: Vec<u8>,
    nonce: String,
    /// Client's first message without its header, and ours.
    transcript: String,
}

/// Whether the client is who it says.
#[derive(Debug)]
pub enum Outcome {
    /// It is; `reply` is the last message of the exchange.
    Right {
        /// What the client proved to have.
        keys: Keys,
        /// To be sent to the client.
        reply: String,
    },
    /// It is not, or nobody is.
    Wrong,
}

impl<'v> ServerFirst<'v> {
    /// Answers a client's first message; the second part goes to the client. `fresh` is a nonce never used before, of
    /// printable characters without comma.
    ///
    /// # Errors
    /// If the message is malformed, asks for an extension or another user to act as, or does not fit the mechanism.
    pub fn answer(
        verifier: &'v Verifier,
        binding: &Binding,
        mechanism: &str,
        message: &[u8],
        fresh: &str,
    ) -> Result<(Self, String)> {
        let message = text(message)?;
        let (flag, rest) = message.split_once(',').ok_or_else(|| malformed("it has no header"))?;
        let (acting_as, bare) = rest.split_once(',').ok_or_else(|| malformed("it has no header"))?;
        if !acting_as.is_empty() {
            return Err(malformed("acting as another user is not supported"));
        }
        let mut channel = format!("{flag},,").into_bytes();
        match (mechanism, flag, binding) {
            (SCRAM_SHA_256, "n", _) | (SCRAM_SHA_256, "y", Binding::None) => {}
            (SCRAM_SHA_256, "y", Binding::EndPoint(_)) => {
                return Err(malformed("channel binding was offered, but did not reach the client"));
            }
            (SCRAM_SHA_256_PLUS, bound, Binding::EndPoint(hash)) if bound.strip_prefix("p=") == Some(END_POINT) => {
                channel.extend_from_slice(hash);
            }
            _ => return Err(malformed("the channel binding does not fit what was offered")),
        }
        let mut rest = bare;
        take(&mut rest, 'n')?;
        let theirs = nonce(take(&mut rest, 'r')?)?;
        let nonce = format!("{theirs}{fresh}");
        let reply = format!("r={nonce},s={},i={}", encode(&verifier.salt), verifier.iterations);
        let transcript = format!("{bare},{reply}");
        Ok((Self { verifier, channel, nonce, transcript }, reply))
    }

    /// Checks the client's last message.
    ///
    /// # Errors
    /// If it is malformed, of another exchange, or bound to another channel. A wrong proof is no error but an outcome.
    pub fn check(self, message: &[u8]) -> Result<Outcome> {
        let message = text(message)?;
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or_else(|| malformed("it has no proof"))?;
        let mut rest = without_proof;
        let channel = decode(take(&mut rest, 'c')?)?;
        let nonce = take(&mut rest, 'r')?;
        if !maths::equal(&channel, &self.channel) {
            return Err(malformed("it is bound to another channel"));
        }
        if nonce != self.nonce {
            return Err(malformed("it belongs to another exchange"));
        }
        let signed = format!("{},{without_proof}", self.transcript);
        let signature = maths::hmac(&self.verifier.stored_key, signed.as_bytes());
        let client = maths::xor(&decode_key(proof)?, &signature);
        if !maths::equal(&maths::h(&client), &self.verifier.stored_key) {
            return Ok(Outcome::Wrong);
        }
        let reply = format!("v={}", encode(&maths::hmac(&self.verifier.server_key, signed.as_bytes())));
        Ok(Outcome::Right { keys: Keys { client, server: self.verifier.server_key }, reply })
    }
}
