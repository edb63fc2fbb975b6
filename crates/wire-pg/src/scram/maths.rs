//! The functions of the RFC, by their names there.

use aws_lc_rs::{constant_time, digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use windlass_core::{Error, Result};

/// Bytes of a SHA-256 digest.
pub(super) const DIGEST: usize = 32;

pub(super) type Key = [u8; DIGEST];

pub(super) fn hmac(key: &[u8], data: &[u8]) -> Key {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data);
    let mut out = [0; DIGEST];
    out.copy_from_slice(tag.as_ref());
    out
}

pub(super) fn h(data: &[u8]) -> Key {
    let mut out = [0; DIGEST];
    out.copy_from_slice(digest::digest(&digest::SHA256, data).as_ref());
    out
}

pub(super) fn xor(a: &Key, b: &Key) -> Key {
    let mut out = *a;
    for (left, right) in out.iter_mut().zip(b) {
        *left ^= right;
    }
    out
}

pub(super) fn equal(a: &[u8], b: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(a, b).is_ok()
}

pub(super) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub(super) fn decode(text: &str) -> Result<Vec<u8>> {
    STANDARD.decode(text).map_err(|_| malformed("base64 is expected"))
}

pub(super) fn decode_key(text: &str) -> Result<Key> {
    Key::try_from(decode(text)?).map_err(|_| malformed("a key of 32 bytes is expected"))
}

pub(super) fn malformed(why: &str) -> Error {
    Error::invalid("SCRAM message", why)
}
