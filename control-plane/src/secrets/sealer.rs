//! Envelope encryption of secrets that rest in the metadata database.
//!
//! Each value is sealed by a data key of its own, which is wrapped by the installation's key encryption key (KEK); both by
//! AES-256-GCM-SIV, which forgives a repeated nonce. The caller's place (`table/id/column`) is authenticated, so a
//! sealed value moved to another row does not open. Invariants: a value that was changed, moved or sealed under another
//! key gives an error, never garbage; rotating the KEK re-wraps the data key and leaves the sealed value alone.
//!
//! Layout: format (1 byte, 1) · KEK version (4, big endian) · nonce (12) · wrapped data key (32 + 16) · nonce (12) ·
//! sealed value (n + 16).

use std::{path::Path, sync::Arc};

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use secrecy::{ExposeSecret, SecretBox, SecretSlice};
use windlass_core::Error;
use windlass_kit::random;

use super::key_file::{self, KEY_LENGTH, Key, Keys};

const FORMAT: u8 = 1;
const TAG: usize = 16;
const VERSION_END: usize = 5;
const WRAPPED_END: usize = VERSION_END + NONCE_LEN + KEY_LENGTH + TAG;
const SHORTEST: usize = WRAPPED_END + NONCE_LEN + TAG;

/// Seals and opens. Cheap to clone.
#[derive(Clone)]
pub struct Sealer {
    keys: Arc<Keys>,
}

impl Sealer {
    /// With the KEKs of a file, which is made if it does not exist. It must be private (0600).
    ///
    /// # Errors
    /// `INTERNAL` naming the file and what is wrong with it.
    pub fn open_file(path: &Path) -> Result<Self, Error> {
        Ok(Self { keys: Arc::new(key_file::read_or_create(path)?) })
    }

    /// Adds a KEK to the file and seals with it from now on. What was sealed before still opens; [`Sealer::rewrap`] each
    /// row before the old KEK is taken out of the file.
    ///
    /// # Errors
    /// As [`Sealer::open_file`].
    pub fn rotate_file(path: &Path) -> Result<Self, Error> {
        Ok(Self { keys: Arc::new(key_file::add_version(path)?) })
    }

    /// Seals a secret for one place, `table/id/column`.
    pub fn seal(&self, place: &str, secret: &[u8]) -> Vec<u8> {
        let data_key: Key = SecretBox::new(Box::new(random::bytes()));
        let mut sealed = self.wrap(place, &data_key);
        encrypt(&data_key, &value_aad(place), secret, &mut sealed);
        sealed
    }

    /// Opens what was sealed for the same place.
    ///
    /// # Errors
    /// `INTERNAL` naming the place and whether the form, the KEK or the content is wrong.
    pub fn open(&self, place: &str, sealed: &[u8]) -> Result<SecretSlice<u8>, Error> {
        let data_key = self.unwrap(place, sealed)?;
        let opened = decrypt(&data_key, &value_aad(place), &sealed[WRAPPED_END..]);
        opened.ok_or_else(|| refused(place, "its value was changed or belongs elsewhere"))
    }

    /// The version of the KEK that a value is sealed under; `None` if it has not the form of a sealed value.
    pub fn version_of(sealed: &[u8]) -> Option<u32> {
        let header = sealed.first_chunk::<VERSION_END>().filter(|_| sealed.len() >= SHORTEST)?;
        let [FORMAT, version @ ..] = *header else { return None };
        Some(u32::from_be_bytes(version))
    }

    /// The version of the KEK that seals now.
    pub fn version(&self) -> u32 {
        self.current().0
    }

    /// The same sealed value with its data key wrapped by the KEK that seals now.
    ///
    /// # Errors
    /// As [`Sealer::open`], as far as the data key can tell.
    pub fn rewrap(&self, place: &str, sealed: &[u8]) -> Result<Vec<u8>, Error> {
        let data_key = self.unwrap(place, sealed)?;
        let mut fresh = self.wrap(place, &data_key);
        fresh.extend_from_slice(&sealed[WRAPPED_END..]);
        Ok(fresh)
    }

    fn current(&self) -> (u32, &Key) {
        let (version, key) = self.keys.last_key_value().expect("a key file has at least one key");
        (*version, key)
    }

    fn wrap(&self, place: &str, data_key: &Key) -> Vec<u8> {
        let (version, kek) = self.current();
        let mut sealed = vec![FORMAT];
        sealed.extend_from_slice(&version.to_be_bytes());
        encrypt(kek, &wrap_aad(place, version), data_key.expose_secret(), &mut sealed);
        sealed
    }

    fn unwrap(&self, place: &str, sealed: &[u8]) -> Result<Key, Error> {
        let version =
            Self::version_of(sealed).ok_or_else(|| refused(place, "it has not the form of a sealed value"))?;
        let kek = self.keys.get(&version).ok_or_else(|| {
            refused(place, &format!("it needs key {version}, which the key file lacks; put the right key file back"))
        })?;
        let data_key = decrypt(kek, &wrap_aad(place, version), &sealed[VERSION_END..WRAPPED_END])
            .ok_or_else(|| refused(place, "the key file does not fit, or it was changed or belongs elsewhere"))?;
        let data_key = <[u8; KEY_LENGTH]>::try_from(data_key.expose_secret())
            .map_err(|_| refused(place, "its data key has a wrong length"))?;
        Ok(SecretBox::new(Box::new(data_key)))
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealer(key {})", self.version())
    }
}

fn refused(place: &str, why: &str) -> Error {
    Error::internal(format!("cannot open the secret in {place}: {why}"))
}

fn wrap_aad(place: &str, version: u32) -> Vec<u8> {
    format!("windlass wrap {FORMAT} {version} {place}").into_bytes()
}

/// Without the KEK's version, so that re-wrapping leaves the value as it is.
fn value_aad(place: &str) -> Vec<u8> {
    format!("windlass value {FORMAT} {place}").into_bytes()
}

fn cipher(key: &Key) -> LessSafeKey {
    let key = UnboundKey::new(&AES_256_GCM_SIV, key.expose_secret()).expect("the key has the cipher's length");
    LessSafeKey::new(key)
}

/// Appends nonce, ciphertext and tag to `out`.
fn encrypt(key: &Key, aad: &[u8], plain: &[u8], out: &mut Vec<u8>) {
    let nonce = random::bytes::<NONCE_LEN>();
    let mut content = plain.to_vec();
    cipher(key)
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut content)
        .expect("a secret is far shorter than the cipher's limit");
    out.extend_from_slice(&nonce);
    out.append(&mut content);
}

/// Reads nonce, ciphertext and tag; `None` if they do not fit the key and `aad`.
fn decrypt(key: &Key, aad: &[u8], sealed: &[u8]) -> Option<SecretSlice<u8>> {
    let (nonce, content) = sealed.split_first_chunk::<NONCE_LEN>()?;
    let mut content = content.to_vec();
    let length =
        cipher(key).open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(aad), &mut content).ok()?.len();
    content.truncate(length);
    Some(content.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sealer(versions: &[u32]) -> Sealer {
        let keys = versions.iter().map(|version| (*version, SecretBox::new(Box::new(random::bytes()))));
        Sealer { keys: Arc::new(keys.collect()) }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_sealed_opens_at_its_place_only(secret in prop::collection::vec(any::<u8>(), 0..200), place in "[a-z/]{1,20}", other in "[a-z/]{1,20}") {
            let sealer = sealer(&[1]);
            let sealed = sealer.seal(&place, &secret);
            let opened = sealer.open(&place, &sealed).expect("opens");
            prop_assert_eq!(opened.expose_secret(), &secret[..]);
            if place != other {
                prop_assert!(sealer.open(&other, &sealed).is_err());
                prop_assert!(sealer.rewrap(&other, &sealed).is_err());
            }
        }

        #[test]
        fn a_changed_bit_or_a_cut_is_an_error(secret in prop::collection::vec(any::<u8>(), 0..100), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let sealer = sealer(&[1, 2]);
            let sealed = sealer.seal("t/1/c", &secret);
            let mut changed = sealed.clone();
            changed[at.index(sealed.len())] ^= 1 << bit;
            prop_assert!(sealer.open("t/1/c", &changed).is_err());
            prop_assert!(sealer.open("t/1/c", &sealed[..at.index(sealed.len())]).is_err());
        }

        #[test]
        fn rubbish_is_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(sealer(&[1]).open("t/1/c", &bytes).is_err());
        }
    }

    #[test]
    fn another_installations_key_is_an_error_that_says_so() {
        let sealed = sealer(&[1]).seal("t/1/c", b"secret");
        let error = sealer(&[1]).open("t/1/c", &sealed).expect_err("other key");
        assert!(error.message.contains("the key file does not fit"), "{error}");
        let error = sealer(&[2]).open("t/1/c", &sealed).expect_err("no such key");
        assert!(error.message.contains("needs key 1, which the key file lacks"), "{error}");
    }

    #[test]
    fn a_rotation_rewraps_and_then_the_old_key_is_not_needed() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("kek");
        let sealed = Sealer::open_file(&path).expect("made").seal("t/1/c", b"secret");
        let rotated = Sealer::rotate_file(&path).expect("rotated");
        assert_eq!(rotated.open("t/1/c", &sealed).expect("old still opens").expose_secret(), b"secret");
        let rewrapped = rotated.rewrap("t/1/c", &sealed).expect("rewraps");
        assert_eq!((Sealer::version_of(&sealed), Sealer::version_of(&rewrapped)), (Some(1), Some(2)));
        assert_eq!(sealed[WRAPPED_END..], rewrapped[WRAPPED_END..], "the value itself is untouched");

        let text = std::fs::read_to_string(&path).expect("read");
        std::fs::write(&path, text.lines().last().expect("newest key")).expect("drop the old key");
        let newest = Sealer::open_file(&path).expect("reads");
        assert_eq!(newest.open("t/1/c", &rewrapped).expect("opens").expose_secret(), b"secret");
    }

    #[test]
    fn the_same_secret_never_looks_the_same() {
        let sealer = sealer(&[1]);
        assert_ne!(sealer.seal("t/1/c", b"secret"), sealer.seal("t/1/c", b"secret"));
    }
}
