//! Whether a join token admits a key: a pure decision over the token's row, the key and the time.
//!
//! A token is for one host or one proxy (`I` is its id). The same key may come again until the token expires, because the
//! answer to its first coming may have been lost; another key may not, because that would be another machine (or a thief).

use std::fmt::Display;

use jiff::Timestamp;
use windlass_core::{Error, ErrorKind, Reason, proxy::TokenPurpose};

/// What is known of a join token.
#[derive(Debug, Clone)]
pub struct TokenFacts<I> {
    /// What may enrol with it.
    pub purpose: TokenPurpose,
    /// Until when it may be used.
    pub expire_time: Timestamp,
    /// When it was revoked.
    pub revoke_time: Option<Timestamp>,
    /// By whom it was used.
    pub used: Option<TokenUse<I>>,
}

/// The use of a join token.
#[derive(Debug, Clone)]
pub struct TokenUse<I> {
    /// SHA-256 of the public key that used it.
    pub key_sha256: Vec<u8>,
    /// What it became.
    pub by: I,
}

/// How a key is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission<I> {
    /// As a new host or proxy.
    New,
    /// As what it has become already: its answer was lost.
    Repeat(I),
}

/// Decides for something of this purpose. `token` is `None` if no token has the hash of the text shown.
///
/// # Errors
/// `JOIN_TOKEN_INVALID` saying why and what to do.
pub fn admit<I: Copy + Display>(
    purpose: TokenPurpose,
    token: Option<&TokenFacts<I>>,
    key_sha256: &[u8],
    now: Timestamp,
) -> Result<Admission<I>, Error> {
    let refused = |why: &str| refused(purpose, why);
    let token =
        token.ok_or_else(|| refused("is unknown; check that it was copied whole and is for this control plane"))?;
    if token.purpose != purpose {
        return Err(refused(&format!("is for a {}, not for a {purpose}", token.purpose)));
    }
    if let Some(revoked) = token.revoke_time {
        return Err(refused(&format!("was revoked at {revoked}")));
    }
    if let Some(used) = &token.used
        && used.key_sha256 != key_sha256
    {
        return Err(refused(&format!("was used by another key, for {purpose} {}", used.by)));
    }
    if now >= token.expire_time {
        return Err(refused(&format!("expired at {}", token.expire_time)));
    }
    Ok(token.used.as_ref().map_or(Admission::New, |used| Admission::Repeat(used.by)))
}

fn refused(purpose: TokenPurpose, why: &str) -> Error {
    Error::new(
        ErrorKind::Unauthenticated,
        Reason::JoinTokenInvalid,
        format!("the join token {why}; make a new one with `windlass {purpose} token create`"),
    )
}

#[cfg(test)]
mod tests {
    use windlass_core::id::HostId;

    use super::*;

    const KEY: &[u8] = b"key";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("time")
    }

    fn fresh() -> TokenFacts<HostId> {
        TokenFacts { purpose: TokenPurpose::Host, expire_time: at(100), revoke_time: None, used: None }
    }

    fn used(by: &[u8], host: HostId) -> TokenFacts<HostId> {
        TokenFacts { used: Some(TokenUse { key_sha256: by.to_vec(), by: host }), ..fresh() }
    }

    #[test]
    fn a_fresh_token_admits_once_and_the_same_key_again_until_it_expires() {
        let host = HostId::new();
        assert_eq!(admit(TokenPurpose::Host, Some(&fresh()), KEY, at(99)).expect("fresh"), Admission::New);
        assert_eq!(
            admit(TokenPurpose::Host, Some(&used(KEY, host)), KEY, at(99)).expect("repeat"),
            Admission::Repeat(host)
        );
        let late = admit(TokenPurpose::Host, Some(&used(KEY, host)), KEY, at(100)).expect_err("expired");
        assert!(late.message.contains("expired at 1970-01-01T00:01:40Z"), "{late}");
    }

    #[test]
    fn each_refusal_says_exactly_why() {
        let host = HostId::new();
        let proxys = TokenFacts { purpose: TokenPurpose::Proxy, ..fresh() };
        let revoked = TokenFacts { revoke_time: Some(at(5)), ..used(KEY, host) };
        for (token, now, expected) in [
            (None, 0, "is unknown".to_owned()),
            (Some(fresh()), 100, "expired at 1970-01-01T00:01:40Z".to_owned()),
            (Some(used(b"other", host)), 0, format!("was used by another key, for host {host}")),
            (Some(used(b"other", host)), 200, format!("was used by another key, for host {host}")),
            (Some(proxys), 0, "is for a proxy, not for a host".to_owned()),
            (Some(revoked), 0, "was revoked at 1970-01-01T00:00:05Z".to_owned()),
        ] {
            let error = admit(TokenPurpose::Host, token.as_ref(), KEY, at(now)).expect_err(&expected);
            assert_eq!(error.reason, Reason::JoinTokenInvalid);
            assert!(error.message.contains(&expected), "{error}");
        }
    }
}
