//! The syntax of SCRAM messages: `a=value,b=value`.

use windlass_core::Result;

use super::MAX_SCRAM;
use super::maths::malformed;

/// The message as text, if it is not too long.
pub(super) fn text(message: &[u8]) -> Result<&str> {
    if message.len() > MAX_SCRAM {
        return Err(malformed("it is longer than 4096 bytes"));
    }
    std::str::from_utf8(message).map_err(|_| malformed("it is not UTF-8"))
}

/// Takes the attribute `name` from the front; what follows its comma stays.
pub(super) fn take<'a>(rest: &mut &'a str, name: char) -> Result<&'a str> {
    let text = rest
        .strip_prefix(name)
        .and_then(|rest| rest.strip_prefix('='))
        .ok_or_else(|| malformed("an attribute is missing"))?;
    let (value, after) = text.split_once(',').unwrap_or((text, ""));
    *rest = after;
    Ok(value)
}

/// A nonce: printable, without comma.
pub(super) fn nonce(value: &str) -> Result<&str> {
    let printable = value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
    if printable && !value.is_empty() { Ok(value) } else { Err(malformed("the nonce is not printable")) }
}
