//! Sizes: processor share, memory and disk of a member, and the text form in which people write bytes.
//!
//! Invariant: arithmetic saturates; a sum of sizes never wraps.

use serde::{Deserialize, Serialize};

use crate::{Error, error::FieldViolation};

/// One mebibyte, in bytes.
pub const MIB: u64 = 1 << 20;
/// One gibibyte, in bytes.
pub const GIB: u64 = 1 << 30;

/// Processor, memory and disk of one member, or a sum of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
pub struct Resources {
    /// Thousandths of a processor core.
    pub cpu_millis: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Disk quota in bytes.
    pub disk_bytes: u64,
}

impl Resources {
    /// What an instance gets when the request names no size: half a core, 512 MiB, 2 GiB.
    pub const DEFAULT: Self = Self { cpu_millis: 500, memory_bytes: 512 * MIB, disk_bytes: 2 * GIB };
    /// Smallest size of a member: a tenth of a core, 128 MiB, 256 MiB.
    pub const MIN: Self = Self { cpu_millis: 100, memory_bytes: 128 * MIB, disk_bytes: 256 * MIB };
    /// Largest size of a member: 1,024 cores, 32 TiB, 1 PiB.
    pub const MAX: Self = Self { cpu_millis: 1_024_000, memory_bytes: 32 << 40, disk_bytes: 1 << 50 };

    /// The sum, saturating.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis.saturating_add(other.cpu_millis),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
            disk_bytes: self.disk_bytes.saturating_add(other.disk_bytes),
        }
    }

    /// Checks that every part lies within [`Self::MIN`] and [`Self::MAX`].
    ///
    /// # Errors
    /// `INVALID_FIELD` with one violation for each part that does not.
    pub fn check(&self) -> Result<(), Error> {
        let parts = [
            ("cpu_millis", self.cpu_millis, Self::MIN.cpu_millis, Self::MAX.cpu_millis),
            ("memory_bytes", self.memory_bytes, Self::MIN.memory_bytes, Self::MAX.memory_bytes),
            ("disk_bytes", self.disk_bytes, Self::MIN.disk_bytes, Self::MAX.disk_bytes),
        ];
        let violations: Vec<_> = parts
            .into_iter()
            .filter(|(_, value, min, max)| value < min || value > max)
            .map(|(field, value, min, max)| FieldViolation {
                field: field.to_owned(),
                description: if field == "cpu_millis" {
                    format!("{value} is outside {min} to {max} thousandths of a core")
                } else {
                    format!("{} is outside {} to {}", format_bytes(value), format_bytes(min), format_bytes(max))
                },
            })
            .collect();
        if violations.is_empty() { Ok(()) } else { Err(Error::violations(violations)) }
    }
}

/// Bytes as people write them: `512MiB`, `1.5GiB`, `20G` (binary), `1000000`.
///
/// # Errors
/// `INVALID_FIELD` naming `field`.
pub fn parse_bytes(field: &str, text: &str) -> Result<u64, Error> {
    let wrong = || Error::invalid(field, format!("{text:?} is not a size; write for example 512MiB, 1.5GiB or 20G"));
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => MIB,
        "g" | "gb" | "gib" => GIB,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return Err(wrong()),
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor).ok_or_else(wrong);
    }
    let value = number.parse::<f64>().map_err(|_| wrong())? * factor as f64;
    if value.is_finite() && value >= 0.0 && value < (1u64 << 53) as f64 { Ok(value as u64) } else { Err(wrong()) }
}

/// Bytes for people: `512 MiB`, `1.5 GiB`, `17 B`.
pub fn format_bytes(bytes: u64) -> String {
    let units = [(1u64 << 50, "PiB"), (1 << 40, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(size, _)| bytes >= *size) {
        Some((size, unit)) if bytes.is_multiple_of(size) => format!("{} {unit}", bytes / size),
        Some((size, unit)) => format!("{:.1} {unit}", bytes as f64 / size as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written_as_people_do() {
        for (text, bytes) in
            [("512MiB", 512 * MIB), ("1.5GiB", GIB + GIB / 2), ("20G", 20 * GIB), ("17", 17), ("2 tb", 2 << 40)]
        {
            assert_eq!(parse_bytes("size", text).expect(text), bytes);
        }
        for bad in ["", "x", "1.2.3G", "-1", "5 parsecs", "99999999999T"] {
            parse_bytes("size", bad).expect_err(bad);
        }
        assert_eq!(format_bytes(512 * MIB), "512 MiB");
        assert_eq!(format_bytes(GIB + GIB / 2), "1.5 GiB");
    }

    #[test]
    fn each_part_out_of_range_is_a_violation_of_its_own() {
        let error = Resources { cpu_millis: 1, memory_bytes: 1, disk_bytes: u64::MAX }.check().expect_err("all wrong");
        assert_eq!(error.violations.len(), 3);
        Resources::DEFAULT.check().expect("the default is legal");
    }
}
