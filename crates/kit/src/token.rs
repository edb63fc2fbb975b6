//! The text of join tokens and API keys: what people copy and programs send.
//!
//! Owns: generating, parsing and hashing. Lives here because the control plane makes them, and agent and CLI read them.
//! Invariants: 256 random bits guard each; only the SHA-256 of the whole text is stored anywhere; `Debug` shows no secret.
//! A fast hash is right because the secret cannot be guessed, unlike a password.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use windlass_core::{Error, id::JoinTokenId};

use crate::{random, tls::Pin};

const SECRET_LENGTH: usize = 43;

/// SHA-256 of a token's whole text: what the database stores and looks up.
pub fn sha256(text: &SecretString) -> [u8; 32] {
    digest(text.expose_secret().as_bytes())
}

/// SHA-256 of some bytes.
pub fn digest(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().try_into().expect("a SHA-256 digest has 32 bytes")
}

/// With which a host enrols once: `wlj_<12 hex>.<43 characters>.<pin>`. The pin is the SHA-256 of the certificate of the
/// internal CA, so that the agent knows whom to trust before it has any certificate.
#[derive(Clone)]
pub struct JoinToken {
    text: SecretString,
    short_id: String,
    pin: Pin,
}

impl JoinToken {
    /// A fresh one.
    pub fn generate(id: JoinTokenId, pin: Pin) -> Self {
        let short_id = id.short();
        let text = format!("wlj_{short_id}.{}.{pin}", random::secret().expose_secret());
        Self { text: text.into(), short_id, pin }
    }

    /// Reads one.
    ///
    /// # Errors
    /// `INVALID_FIELD` on `token`, saying which part is wrong and never quoting the secret.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let wrong = |what: &str| {
            Error::invalid(
                "token",
                format!(
                    "{what}; a join token reads wlj_<id>.<secret>.<pin>: copy the whole line that `windlass host token create` printed"
                ),
            )
        };
        let rest = text.strip_prefix("wlj_").ok_or_else(|| wrong("it does not begin with wlj_"))?;
        let [short_id, secret, pin] = <[&str; 3]>::try_from(rest.split('.').collect::<Vec<_>>())
            .map_err(|parts| wrong(&format!("it has {} parts instead of 3", parts.len())))?;
        if !is_hex(short_id, 12) {
            return Err(wrong("its id is not 12 hex digits"));
        }
        if !is_secret(secret) {
            return Err(wrong(&format!("its secret is not {SECRET_LENGTH} characters of base64url")));
        }
        let pin = pin.parse().map_err(|_| wrong("its pin is not 64 hex digits"))?;
        Ok(Self { text: text.to_owned().into(), short_id: short_id.to_owned(), pin })
    }

    /// The whole text, for the one time it is shown or sent.
    pub fn text(&self) -> &SecretString {
        &self.text
    }

    /// [`JoinTokenId::short`] of the token, for logs.
    pub fn short_id(&self) -> &str {
        &self.short_id
    }

    /// Whom the agent may trust.
    pub fn pin(&self) -> Pin {
        self.pin
    }

    /// What is stored.
    pub fn sha256(&self) -> [u8; 32] {
        sha256(&self.text)
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken(wlj_{}.…)", self.short_id)
    }
}

/// With which a client calls the API: `wl_<8 hex>.<43 characters>`.
#[derive(Clone)]
pub struct ApiKey {
    text: SecretString,
    prefix: String,
}

impl ApiKey {
    /// A fresh one.
    pub fn generate() -> Self {
        let prefix = format!("wl_{}", hex::encode(random::bytes::<4>()));
        let text = format!("{prefix}.{}", random::secret().expose_secret());
        Self { text: text.into(), prefix }
    }

    /// Reads one.
    ///
    /// # Errors
    /// `INVALID_FIELD` on `api_key`, saying which part is wrong and never quoting the secret.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let wrong = |what: &str| {
            Error::invalid(
                "api_key",
                format!(
                    "{what}; an API key reads wl_<8 hex>.<secret>: copy the whole line that `windlass key create` printed"
                ),
            )
        };
        let rest = text.strip_prefix("wl_").ok_or_else(|| wrong("it does not begin with wl_"))?;
        let (id, secret) = rest.split_once('.').ok_or_else(|| wrong("it has no dot after its prefix"))?;
        if !is_hex(id, 8) {
            return Err(wrong("its prefix is not wl_ and 8 hex digits"));
        }
        if !is_secret(secret) {
            return Err(wrong(&format!("its secret is not {SECRET_LENGTH} characters of base64url")));
        }
        Ok(Self { text: text.to_owned().into(), prefix: format!("wl_{id}") })
    }

    /// The whole text, for the one time it is shown or sent.
    pub fn text(&self) -> &SecretString {
        &self.text
    }

    /// The part that is not secret, by which people tell keys apart.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What is stored.
    pub fn sha256(&self) -> [u8; 32] {
        sha256(&self.text)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey({}.…)", self.prefix)
    }
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn is_secret(text: &str) -> bool {
    text.len() == SECRET_LENGTH && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_join_token_round_trips_with_its_pin_and_hides_its_secret() {
        let (id, pin) = (JoinTokenId::new(), Pin::of(b"certificate"));
        let token = JoinToken::generate(id, pin);
        let read = JoinToken::parse(&format!("  {}\n", token.text().expose_secret())).expect("round trip");
        assert_eq!((read.short_id(), read.pin(), read.sha256()), (id.short().as_str(), pin, token.sha256()));
        assert_eq!(format!("{token:?}"), format!("JoinToken(wlj_{}.…)", id.short()));
    }

    #[test]
    fn an_api_key_round_trips_and_hides_its_secret() {
        let key = ApiKey::generate();
        let read = ApiKey::parse(key.text().expose_secret()).expect("round trip");
        assert_eq!((read.prefix(), read.sha256()), (key.prefix(), key.sha256()));
        assert_eq!(format!("{key:?}"), format!("ApiKey({}.…)", key.prefix()));
        assert_eq!(key.prefix().len(), 11);
    }

    #[test]
    fn a_wrong_token_is_told_what_is_wrong_without_its_secret() {
        let good = JoinToken::generate(JoinTokenId::new(), Pin::of(b"x"));
        let good = good.text().expose_secret();
        let secret = good.split('.').nth(1).expect("secret");
        for (bad, expected) in [
            ("".to_owned(), "does not begin with wlj_"),
            (good.replace("wlj_", "wl_"), "does not begin with wlj_"),
            (format!("{good}.x"), "4 parts instead of 3"),
            (good.replace(secret, &secret[1..]), "43 characters"),
            (good.replace(secret, &secret.replace(&secret[..1], "!")), "43 characters"),
            (good[..good.len() - 1].to_owned(), "64 hex digits"),
            (good.replacen("wlj_", "wlj_Z", 1), "12 hex digits"),
        ] {
            let error = JoinToken::parse(&bad).expect_err(&bad);
            assert_eq!(error.violations[0].field, "token");
            assert!(error.message.contains(expected), "{bad}: {error}");
            assert!(!error.message.contains(secret), "{error}");
        }
    }

    #[test]
    fn a_wrong_key_is_told_what_is_wrong() {
        for (bad, expected) in [
            ("hello", "does not begin with wl_"),
            ("wl_12345678", "no dot"),
            ("wl_1234567.x", "8 hex digits"),
            ("wl_12345678.x", "43 characters"),
        ] {
            let error = ApiKey::parse(bad).expect_err(bad);
            assert!(error.message.contains(expected), "{bad}: {error}");
        }
    }
}
