//! Passwords for database users that Windlass makes.

use secrecy::SecretString;
use windlass_kit::random;

const LENGTH: usize = 32;

/// Letters and digits that no font confuses (no 0 O o, 1 I l) and that need no quoting in shells, URIs and SQL.
const ALPHABET: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// A password of 32 characters, about 185 bits.
pub fn generate_password() -> SecretString {
    let size = u32::try_from(ALPHABET.len()).expect("the alphabet has fewer than 2^32 characters");
    let password: String = (0..LENGTH).map(|_| char::from(ALPHABET[random::below(size) as usize])).collect();
    password.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn a_password_is_32_plain_characters_and_never_the_same() {
        let (one, other) = (generate_password(), generate_password());
        assert_eq!(one.expose_secret().len(), 32);
        assert!(one.expose_secret().chars().all(|c| c.is_ascii_alphanumeric() && !"0Oo1Il".contains(c)));
        assert_ne!(one.expose_secret(), other.expose_secret());
    }
}
