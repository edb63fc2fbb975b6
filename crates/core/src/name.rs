//! Names that people choose: projects, instances, hosts (DNS labels) and SQL objects (identifiers).
//!
//! Why types: a `ResourceName` is safe in a DNS name, a certificate, a path and a unit name; an `SqlName` needs no
//! quoting surprises in either engine. Parsed once at the border, never checked again.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Error, error::nearest};

/// Longest resource name, in bytes: a DNS label (RFC 1035) may have 63.
pub const RESOURCE_NAME_MAX: usize = 63;
/// Longest SQL object name, in bytes: PostgreSQL's NAMEDATALEN - 1, which is below MariaDB's 64 characters.
pub const SQL_NAME_MAX: usize = 63;
/// Names of SQL objects that belong to Windlass or to the engines.
const RESERVED_SQL: &[&str] = &[
    "postgres",
    "template0",
    "template1",
    "mysql",
    "sys",
    "information_schema",
    "performance_schema",
    "root",
    "mariadb.sys",
    "public",
    "none",
    "windlass",
];

/// A lower-case DNS label that starts with a letter: name of a project, an instance or a host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ResourceName(String);

/// A lower-case identifier for users, databases and extensions: `[a-z_][a-z0-9_-]*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SqlName(String);

impl ResourceName {
    /// Parses a name given in `field`.
    ///
    /// # Errors
    /// `INVALID_FIELD` naming `field` and the rule that is broken.
    pub fn parse(field: &str, text: &str) -> Result<Self, Error> {
        let rule = if text.is_empty() {
            "is empty".to_owned()
        } else if text.len() > RESOURCE_NAME_MAX {
            format!("has {} characters", text.len())
        } else if !text.starts_with(|c: char| c.is_ascii_lowercase()) {
            "does not start with a letter a-z".to_owned()
        } else if let Some(bad) = text.chars().find(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-')) {
            format!("has the character {bad:?}")
        } else if text.ends_with('-') {
            "ends with a hyphen".to_owned()
        } else {
            return Ok(Self(text.to_owned()));
        };
        Err(Error::invalid(
            field,
            format!(
                "{text:?} {rule}; use 1 to {RESOURCE_NAME_MAX} of a-z, 0-9 and -, starting with a letter and not ending with -"
            ),
        ))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SqlName {
    /// Parses a name given in `field`.
    ///
    /// # Errors
    /// `INVALID_FIELD` naming `field` and the rule that is broken, also for names that belong to the engines.
    pub fn parse(field: &str, text: &str) -> Result<Self, Error> {
        let name = Self::parse_extension(field, text)?;
        if text.starts_with("pg_") || text.starts_with("windlass_") || RESERVED_SQL.contains(&text) {
            return Err(Error::invalid(
                field,
                format!("{text:?} is reserved; choose a name that is not the engine's own"),
            ));
        }
        Ok(name)
    }

    /// Parses the name of an extension, which its maker chose: only its form is checked.
    ///
    /// # Errors
    /// `INVALID_FIELD` naming `field` and the rule that is broken.
    pub fn parse_extension(field: &str, text: &str) -> Result<Self, Error> {
        let ok_first = |c: char| c.is_ascii_lowercase() || c == '_';
        let ok = |c: char| ok_first(c) || c.is_ascii_digit() || c == '-';
        if text.is_empty() || text.len() > SQL_NAME_MAX || !text.starts_with(ok_first) || !text.chars().all(ok) {
            return Err(Error::invalid(
                field,
                format!(
                    "{text:?} is not a name; use 1 to {SQL_NAME_MAX} of a-z, 0-9, _ and -, starting with a letter or _"
                ),
            ));
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! text_faces {
    ($($name:ident),+) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self, Error> {
                Self::parse("name", text)
            }
        }
        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self, Error> {
                Self::parse("name", &text)
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    )+};
}
text_faces!(ResourceName, SqlName);

/// A full resource name of the API: `projects/p/instances/i` split into its ids.
///
/// `collections` are the words at the even places, in order, for example `["projects", "instances"]`.
///
/// # Errors
/// `INVALID_FIELD` naming `field`, with the expected form.
pub fn split_path<const N: usize>(field: &str, path: &str, collections: [&str; N]) -> Result<[String; N], Error> {
    let form = || collections.iter().map(|c| format!("{c}/{{name}}")).collect::<Vec<_>>().join("/");
    let parts: Vec<&str> = path.split('/').collect();
    let fits = parts.len() == 2 * N
        && collections.iter().enumerate().all(|(i, word)| parts[2 * i] == *word)
        && parts.iter().all(|part| !part.is_empty());
    if !fits {
        let hint = nearest(parts.first().copied().unwrap_or(""), collections.iter().copied())
            .filter(|word| parts.first() != Some(word))
            .map(|word| format!(" (did you mean {word}?)"))
            .unwrap_or_default();
        return Err(Error::invalid(field, format!("{path:?} is not of the form {}{hint}", form())));
    }
    Ok(std::array::from_fn(|i| parts[2 * i + 1].to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names_pass_and_bad_ones_say_why() {
        for good in ["a", "pg-1", "a23456789012345678901234567890123456789012345678901234567890123"] {
            ResourceName::parse("name", good).expect(good);
        }
        for (bad, why) in
            [("", "empty"), ("1a", "start"), ("a_b", "'_'"), ("a-", "hyphen"), ("aB", "'B'"), (&"a".repeat(64), "64")]
        {
            let error = ResourceName::parse("instance.name", bad).expect_err(bad);
            assert!(error.message.contains(why), "{}", error.message);
            assert!(error.message.starts_with("instance.name: "), "{}", error.message);
        }
    }

    #[test]
    fn the_engines_own_names_are_refused() {
        for bad in ["postgres", "pg_monitor", "mysql", "windlass_agent", "x\"y", "a;b", ""] {
            SqlName::parse("user", bad).expect_err(bad);
        }
        SqlName::parse("user", "app_rw").expect("ordinary name");
        SqlName::parse_extension("extension", "pg_trgm").expect("its maker chose it");
        SqlName::parse_extension("extension", "a;b").expect_err("not a name");
    }

    #[test]
    fn paths_are_split_or_explained() {
        assert_eq!(split_path("name", "projects/p/instances/i", ["projects", "instances"]).expect("path"), ["p", "i"]);
        let error = split_path("name", "project/p", ["projects"]).expect_err("slip");
        assert!(
            error.message.contains("projects/{name}") && error.message.contains("did you mean projects"),
            "{error}"
        );
    }
}
