//! Engine parameters: the catalogue that an engine reports of itself, and the check of a user's value against it.
//!
//! Why: bad names and values must be refused when they are asked for, not when the database does not start. The
//! catalogue comes from the engine (`pg_settings`, `SYSTEM_VARIABLES`) on a host, so it is right for the version.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Error, Reason,
    engine::Engine,
    error::{ErrorKind, FieldViolation, nearest},
};

crate::words! {
    /// When a change of a parameter takes effect.
    pub enum Apply {
        /// At once, by a reload or `SET GLOBAL`.
        Dynamic = "DYNAMIC",
        /// After the next restart.
        Restart = "RESTART",
    }
}

/// What values a parameter takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Domain {
    /// On or off.
    Bool,
    /// A whole number within bounds, perhaps with a unit that one step of it stands for (`8kB`, `ms`).
    Integer {
        /// Smallest value, in units.
        #[serde(deserialize_with = "whole")]
        min: i128,
        /// Largest value, in units.
        #[serde(deserialize_with = "whole")]
        max: i128,
        /// The engine's unit, empty if none.
        unit: String,
    },
    /// A real number within bounds.
    Real {
        /// Smallest value.
        min: f64,
        /// Largest value.
        max: f64,
        /// The engine's unit, empty if none.
        unit: String,
    },
    /// One of some words.
    Enum {
        /// The words.
        values: Vec<String>,
    },
    /// Comma-separated words out of some.
    Set {
        /// The words.
        values: Vec<String>,
    },
    /// Free text.
    Text,
}

/// Reads a bound. A tagged enum hands its fields over in 64 bits at most; together `i64` and `u64` cover what engines
/// know.
fn whole<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<i128, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Bound {
        Signed(i64),
        Unsigned(u64),
    }
    Ok(match Bound::deserialize(deserializer)? {
        Bound::Signed(bound) => bound.into(),
        Bound::Unsigned(bound) => bound.into(),
    })
}

/// One parameter as the engine describes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parameter {
    /// Name.
    pub name: String,
    /// What values it takes.
    pub domain: Domain,
    /// When a change takes effect.
    pub apply: Apply,
    /// The engine's own default, for people.
    pub default: String,
    /// One line of description.
    pub description: String,
}

/// All parameters of one engine version that can be set in its configuration, by name.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Catalogue(pub BTreeMap<String, Parameter>);

impl Catalogue {
    /// Checks a user's parameters against the catalogue.
    ///
    /// # Errors
    /// `PARAMETER_INVALID` with one violation for each that is unknown, managed by Windlass or out of its range.
    pub fn check(&self, engine: Engine, parameters: &BTreeMap<String, String>) -> Result<(), Error> {
        let violations: Vec<FieldViolation> = parameters
            .iter()
            .filter_map(|(name, value)| {
                self.check_one(engine, name, value)
                    .err()
                    .map(|description| FieldViolation { field: format!("parameters.{name}"), description })
            })
            .collect();
        if violations.is_empty() {
            return Ok(());
        }
        let message =
            violations.iter().map(|v| format!("{}: {}", v.field, v.description)).collect::<Vec<_>>().join("; ");
        Err(Error { violations, ..Error::new(ErrorKind::InvalidArgument, Reason::ParameterInvalid, message) })
    }

    /// Names among `changed` that take effect only after a restart. Unknown names count, to be safe.
    pub fn needing_restart<'a>(&self, changed: impl Iterator<Item = &'a str>) -> Vec<String> {
        changed
            .filter(|name| self.0.get(*name).is_none_or(|parameter| parameter.apply == Apply::Restart))
            .map(str::to_owned)
            .collect()
    }

    fn check_one(&self, engine: Engine, name: &str, value: &str) -> Result<(), String> {
        if let Err(managed) = engine.check_not_managed(name) {
            return Err(managed.violations.into_iter().map(|v| v.description).collect());
        }
        let Some(parameter) = self.0.get(name) else {
            let hint = nearest(name, self.0.keys().map(String::as_str))
                .map(|n| format!("; did you mean {n}?"))
                .unwrap_or_default();
            return Err(format!("{} has no such parameter{hint}", engine.descriptor().title));
        };
        if value.contains(['\n', '\r', '\0']) {
            return Err("contains a line break; give one line".to_owned());
        }
        match &parameter.domain {
            Domain::Text => Ok(()),
            Domain::Bool => {
                let known = ["on", "off", "true", "false", "yes", "no", "1", "0"];
                known
                    .contains(&value.to_ascii_lowercase().as_str())
                    .then_some(())
                    .ok_or_else(|| format!("{value:?} is not on or off"))
            }
            Domain::Enum { values } => word_of(values, value)
                .then_some(())
                .ok_or_else(|| format!("{value:?} is not one of {}", values.join(", "))),
            Domain::Set { values } => value
                .split(',')
                .map(str::trim)
                .find(|word| !word.is_empty() && !word_of(values, word))
                .map_or(Ok(()), |word| Err(format!("{word:?} is not one of {}", values.join(", ")))),
            Domain::Integer { min, max, unit } => {
                let number = in_units(value, unit).ok_or_else(|| not_a_number(value, unit))?;
                let (low, high) = (*min as f64, *max as f64);
                if number < low || number > high {
                    return Err(format!("{value} is outside {min} to {max}{}", unit_note(unit)));
                }
                Ok(())
            }
            Domain::Real { min, max, unit } => {
                let number = in_units(value, unit).ok_or_else(|| not_a_number(value, unit))?;
                if number < *min || number > *max {
                    return Err(format!("{value} is outside {min} to {max}{}", unit_note(unit)));
                }
                Ok(())
            }
        }
    }
}

fn word_of(values: &[String], word: &str) -> bool {
    values.iter().any(|known| known.eq_ignore_ascii_case(word))
}

fn unit_note(unit: &str) -> String {
    if unit.is_empty() { String::new() } else { format!(" (in units of {unit})") }
}

fn not_a_number(value: &str, unit: &str) -> String {
    let example = match scale(unit) {
        Some((_, Quantity::Bytes)) => ", for example 64MB",
        Some((_, Quantity::Time)) => ", for example 500ms or 5min",
        None => "",
    };
    format!("{value:?} is not a number{}{example}", if unit.is_empty() { "" } else { " with a unit" })
}

#[derive(Clone, Copy, PartialEq)]
enum Quantity {
    Bytes,
    Time,
}

/// A unit as (factor to bytes or milliseconds, quantity). PostgreSQL's units (manual, section 20.1.1), its block units
/// such as `8kB`, and the single-letter suffixes that MariaDB's option files take (`K`, `M`, `G`, `T`).
fn scale(unit: &str) -> Option<(f64, Quantity)> {
    let split = unit.find(|c: char| !c.is_ascii_digit()).unwrap_or(unit.len());
    let (count, word) = unit.split_at(split);
    let count: f64 = if count.is_empty() { 1.0 } else { count.parse().ok()? };
    let (factor, quantity) = match word {
        "B" => (1.0, Quantity::Bytes),
        "kB" | "K" | "k" => (1024.0, Quantity::Bytes),
        "MB" | "M" | "m" => (1024.0 * 1024.0, Quantity::Bytes),
        "GB" | "G" | "g" => (1024.0 * 1024.0 * 1024.0, Quantity::Bytes),
        "TB" | "T" | "t" => (1024.0 * 1024.0 * 1024.0 * 1024.0, Quantity::Bytes),
        "us" => (0.001, Quantity::Time),
        "ms" => (1.0, Quantity::Time),
        "s" => (1000.0, Quantity::Time),
        "min" => (60_000.0, Quantity::Time),
        "h" => (3_600_000.0, Quantity::Time),
        "d" => (86_400_000.0, Quantity::Time),
        _ => return None,
    };
    Some((count * factor, quantity))
}

/// The value in the parameter's own unit, or None when it is not a number of that kind. A value without a unit is
/// already in the parameter's unit.
fn in_units(value: &str, unit: &str) -> Option<f64> {
    let value = value.trim();
    let split = value.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '-' | '+'))).unwrap_or(value.len());
    let (number, suffix) = value.split_at(split);
    let number: f64 = number.parse().ok()?;
    let suffix = suffix.trim();
    if suffix.is_empty() {
        return Some(number);
    }
    let (given, given_quantity) = scale(suffix)?;
    match scale(unit) {
        Some((own, quantity)) if quantity == given_quantity => Some(number * given / own),
        Some(_) => None,
        // MariaDB's catalogue has no units; K, M, G and T multiply plain numbers.
        None => (unit.is_empty() && suffix.len() == 1 && given_quantity == Quantity::Bytes).then_some(number * given),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalogue() -> Catalogue {
        let entry = |name: &str, domain| Parameter {
            name: name.into(),
            domain,
            apply: if name == "shared_buffers" { Apply::Restart } else { Apply::Dynamic },
            default: String::new(),
            description: String::new(),
        };
        Catalogue(
            [
                entry("shared_buffers", Domain::Integer { min: 16, max: 1_073_741_823, unit: "8kB".into() }),
                entry("work_mem", Domain::Integer { min: 64, max: 2_147_483_647, unit: "kB".into() }),
                entry("statement_timeout", Domain::Integer { min: 0, max: 2_147_483_647, unit: "ms".into() }),
                entry("random_page_cost", Domain::Real { min: 0.0, max: 1e300, unit: String::new() }),
                entry(
                    "wal_compression",
                    Domain::Enum { values: vec!["pglz".into(), "lz4".into(), "on".into(), "off".into()] },
                ),
                entry("enable_seqscan", Domain::Bool),
                entry("sql_mode", Domain::Set { values: vec!["STRICT_ALL_TABLES".into(), "ANSI".into()] }),
                entry("max_allowed_packet", Domain::Integer { min: 1024, max: 1 << 30, unit: String::new() }),
            ]
            .into_iter()
            .map(|p| (p.name.clone(), p))
            .collect(),
        )
    }

    fn check(name: &str, value: &str) -> Result<(), Error> {
        catalogue().check(Engine::Postgres, &BTreeMap::from([(name.to_owned(), value.to_owned())]))
    }

    #[test]
    fn good_values_pass_in_every_unit() {
        for (name, value) in [
            ("shared_buffers", "128MB"),
            ("shared_buffers", "16384"),
            ("work_mem", "64kB"),
            ("statement_timeout", "5min"),
            ("statement_timeout", "0"),
            ("random_page_cost", "1.1"),
            ("wal_compression", "LZ4"),
            ("enable_seqscan", "off"),
            ("sql_mode", "ANSI,STRICT_ALL_TABLES"),
            ("max_allowed_packet", "64M"),
        ] {
            check(name, value).unwrap_or_else(|e| panic!("{name}={value}: {e}"));
        }
    }

    #[test]
    fn bad_values_say_what_is_wrong() {
        for (name, value, why) in [
            ("shared_buffers", "8kB", "outside 16 to"),
            ("shared_buffers", "5min", "not a number with a unit"),
            ("work_mem", "lots", "for example 64MB"),
            ("wal_compression", "zip", "not one of pglz, lz4"),
            ("enable_seqscan", "maybe", "not on or off"),
            ("sql_mode", "ANSI,WILD", "\"WILD\" is not one of"),
            ("shared_bufers", "1", "did you mean shared_buffers?"),
            ("port", "1", "set by Windlass"),
            ("work_mem", "1\n2", "line break"),
        ] {
            let error = check(name, value).expect_err(name);
            assert!(error.message.contains(why), "{name}={value}: {}", error.message);
            assert_eq!(error.reason, Reason::ParameterInvalid);
        }
    }

    #[test]
    fn a_catalogue_survives_json_with_the_widest_bounds() {
        let mut wide = catalogue();
        let domain = Domain::Integer { min: i64::MIN.into(), max: u64::MAX.into(), unit: String::new() };
        wide.0.get_mut("max_allowed_packet").expect("there").domain = domain;
        let text = serde_json::to_string(&wide).expect("writes");
        assert_eq!(serde_json::from_str::<Catalogue>(&text).expect("reads"), wide);
        let value = serde_json::to_value(&wide).expect("writes");
        assert_eq!(serde_json::from_value::<Catalogue>(value).expect("reads"), wide);
    }

    #[test]
    fn changes_that_need_a_restart_are_told_apart() {
        assert_eq!(catalogue().needing_restart(["work_mem", "shared_buffers"].into_iter()), ["shared_buffers"]);
    }
}
