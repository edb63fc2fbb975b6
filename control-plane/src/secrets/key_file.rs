//! The file with the installation's key encryption keys.
//!
//! One line per key: version, a space, 64 hex digits. The highest version seals, all of them open, so a rotation adds a
//! line, re-wraps the rows and then takes the old line away. Invariants: mode 0600; versions are unique and at least 1.
//! A crash while it is replaced leaves the old file. Who loses this file loses every sealed secret: back it up apart
//! from the database.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use secrecy::{ExposeSecret, SecretBox, SecretString};
use windlass_core::Error;
use windlass_kit::{
    files::{self, Access},
    random,
};

pub(super) const KEY_LENGTH: usize = 32;

/// A 256-bit key, wiped when dropped.
pub(super) type Key = SecretBox<[u8; KEY_LENGTH]>;

/// Keys by version, at least one.
pub(super) type Keys = BTreeMap<u32, Key>;

/// Reads the file; makes it with a first key if there is none.
pub(super) fn read_or_create(path: &Path) -> Result<Keys, Error> {
    if !path.exists() {
        let first = Keys::from([(1, fresh())]);
        write(path, &first)?;
        return Ok(first);
    }
    files::check_private(path)?;
    parse(&SecretString::from(files::read(path)?), &path.display().to_string())
}

/// Adds a key of the next version, which seals from now on.
pub(super) fn add_version(path: &Path) -> Result<Keys, Error> {
    let mut keys = read_or_create(path)?;
    let next = keys.last_key_value().map_or(0, |(version, _)| *version) + 1;
    keys.insert(next, fresh());
    write(path, &keys)?;
    Ok(keys)
}

fn fresh() -> Key {
    SecretBox::new(Box::new(random::bytes()))
}

fn write(path: &Path, keys: &Keys) -> Result<(), Error> {
    let mut text = String::new();
    for (version, key) in keys {
        writeln!(text, "{version} {}", hex::encode(key.expose_secret())).expect("a string takes every write");
    }
    let text = SecretString::from(text);
    files::replace(path, text.expose_secret().as_bytes(), Access::Private)
}

fn parse(text: &SecretString, origin: &str) -> Result<Keys, Error> {
    let wrong = |line: usize, what: &str| {
        Error::internal(format!("{origin}, line {line}: {what}; each line is a version and 64 hex digits"))
    };
    let mut keys = Keys::new();
    for (index, line) in text.expose_secret().lines().enumerate() {
        let number = index + 1;
        let (version, key) = line.split_once(' ').ok_or_else(|| wrong(number, "there is no space"))?;
        let version = version.parse().ok().filter(|version| *version >= 1);
        let version = version.ok_or_else(|| wrong(number, "the version is not a number from 1 on"))?;
        let mut bytes = Box::new([0; KEY_LENGTH]);
        hex::decode_to_slice(key.trim_end(), bytes.as_mut_slice())
            .map_err(|_| wrong(number, "the key is not 64 hex digits"))?;
        if keys.insert(version, SecretBox::new(bytes)).is_some() {
            return Err(wrong(number, "the version is there twice"));
        }
    }
    if keys.is_empty() { Err(wrong(1, "there is no key")) } else { Ok(keys) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_made_once_private_and_read_back() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("kek");
        let made = read_or_create(&path).expect("made");
        files::check_private(&path).expect("private");
        let read = read_or_create(&path).expect("read");
        assert_eq!(made[&1].expose_secret(), read[&1].expose_secret());
        let both = add_version(&path).expect("rotated");
        assert_eq!(both.keys().copied().collect::<Vec<_>>(), [1, 2]);
        assert_ne!(both[&1].expose_secret(), both[&2].expose_secret());
    }

    #[test]
    fn a_wrong_file_names_line_and_fault_and_quotes_no_key() {
        let key = "ab".repeat(32);
        for (text, expected) in [
            (String::new(), "line 1: there is no key"),
            (format!("{key}\n"), "line 1: there is no space"),
            (format!("1 {key}\n0 {key}\n"), "line 2: the version is not a number from 1 on"),
            (format!("1 {key}\n1 {key}\n"), "line 2: the version is there twice"),
            (format!("1 {}\n", &key[1..]), "line 1: the key is not 64 hex digits"),
        ] {
            let error = parse(&text.into(), "kek").expect_err(expected);
            assert!(error.message.contains(expected), "{error}");
            assert!(!error.message.contains(&key[1..]), "{error}");
        }
    }
}
