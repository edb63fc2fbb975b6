//! Positions in the log.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use windlass_core::Error;

/// A position in the log, in bytes since the beginning of the cluster. 0 is not a position: not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl FromStr for Lsn {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parsed = text.split_once('/').and_then(|(high, low)| {
            let (high, low) = (u64::from_str_radix(high, 16).ok()?, u32::from_str_radix(low, 16).ok()?);
            (high <= u64::from(u32::MAX)).then_some(Self(high << 32 | u64::from(low)))
        });
        parsed.ok_or_else(|| Error::internal(format!("{text:?} is not a position in the log")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_read_as_they_are_written() {
        for text in ["0/0", "0/1500148", "1A/FFFFFFFF"] {
            assert_eq!(text.parse::<Lsn>().expect(text).to_string(), text);
        }
        for bad in ["", "1", "1/100000000", "x/1"] {
            bad.parse::<Lsn>().expect_err(bad);
        }
    }
}
