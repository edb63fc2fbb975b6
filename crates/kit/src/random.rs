//! Randomness for secrets and for jitter, from the operating system by way of aws-lc-rs.
//!
//! Invariant: everything that guards access has 256 bits from here.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::SecretString;

/// `N` bytes that nobody can guess.
///
/// # Panics
/// If the operating system gives no entropy: nothing secret can be made then.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system's random source failed; no secret can be made");
    bytes
}

/// A secret of 256 bits as 43 characters of base64url without padding.
pub fn secret() -> SecretString {
    SecretString::from(URL_SAFE_NO_PAD.encode(bytes::<32>()))
}

/// Uniform in `0.0 .. 1.0`, for jitter.
pub fn unit() -> f64 {
    // 53 bits are what a double's mantissa holds.
    (u64::from_le_bytes(bytes()) >> 11) as f64 / (1u64 << 53) as f64
}

/// Uniform in `0 .. below`; 0 if `below` is 0. Used to choose among alternatives, for example characters.
pub fn below(below: u32) -> u32 {
    if below == 0 {
        return 0;
    }
    // Rejection keeps it uniform: the last incomplete multiple is drawn again.
    let limit = u32::MAX - u32::MAX % below;
    loop {
        let drawn = u32::from_le_bytes(bytes());
        if drawn < limit {
            return drawn % below;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn a_secret_is_43_url_safe_characters_and_never_the_same() {
        let (one, other) = (secret(), secret());
        assert_eq!(one.expose_secret().len(), 43);
        assert!(one.expose_secret().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
        assert_ne!(one.expose_secret(), other.expose_secret());
    }

    #[test]
    fn numbers_stay_in_range_and_reach_all_of_it() {
        let mut seen = [false; 7];
        for _ in 0..1000 {
            assert!((0.0..1.0).contains(&unit()));
            seen[below(7) as usize] = true;
        }
        assert_eq!(seen, [true; 7]);
        assert_eq!(below(0), 0);
        assert_eq!(below(1), 0);
    }
}
