//! Quantities as people write them on a command line, and as tables show them.

use std::time::Duration;

use windlass_core::size;

/// A processor share in thousandths of a core: `2`, `0.5` or `500m`.
pub(crate) fn cpu(text: &str) -> Result<u64, String> {
    let wrong = || "write cores as in 2 or 0.5, or thousandths of one as in 500m".to_owned();
    if let Some(millis) = text.strip_suffix('m') {
        return millis.parse().map_err(|_| wrong());
    }
    let cores: f64 = text.parse().map_err(|_| wrong())?;
    let millis = (cores * 1000.0).round();
    if (0.0..1e12).contains(&millis) { Ok(millis as u64) } else { Err(wrong()) }
}

/// A size in bytes: `512MiB`, `1.5GiB`, `20G`.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    size::parse_bytes("size", text).map_err(|_| "write a size as in 512MiB, 1.5GiB or 20G".to_owned())
}

/// A time span: `90s`, `30m`, `12h`, `7d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "write a time as in 90s, 30m, 12h or 7d".to_owned();
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(split);
    let seconds: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    // A century is more than any limit of the API and far from any overflow.
    let total = number.checked_mul(seconds).filter(|total| *total <= 100 * 366 * 86_400).ok_or_else(wrong)?;
    Ok(Duration::from_secs(total))
}

/// A short time: `1500ms`, or as [`duration`].
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    match text.strip_suffix("ms") {
        Some(millis) => millis.parse().map(Duration::from_millis).map_err(|_| "write a time as in 1500ms or 3s".into()),
        None => duration(text).map_err(|_| "write a time as in 1500ms or 3s".to_owned()),
    }
}

/// `KEY=VALUE`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

/// Thousandths of a core as people read them: `500m`, `2`.
pub(crate) fn show_cpu(millis: u64) -> String {
    if millis.is_multiple_of(1000) { (millis / 1000).to_string() } else { format!("{millis}m") }
}

/// A time span in its largest unit: `3s`, `12m`, `5h`, `9d`.
pub(crate) fn show_span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// The duration as the API wants it.
pub(crate) fn proto_duration(duration: Duration) -> pbjson_types::Duration {
    pbjson_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_people_write_them() {
        assert_eq!((cpu("500m"), cpu("2"), cpu("0.25")), (Ok(500), Ok(2000), Ok(250)));
        assert_eq!(bytes("512MiB"), Ok(512 << 20));
        assert_eq!((duration("90s"), duration("7d")), (Ok(Duration::from_secs(90)), Ok(Duration::from_secs(604_800))));
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        for bad in ["", "m", "-1", "x", "1e400", "nan"] {
            cpu(bad).expect_err(bad);
        }
        for bad in ["", "5", "m", "5w", "99999999999999999999d", "9999999999999d"] {
            duration(bad).expect_err(bad);
        }
        for bad in ["", "=x", "x"] {
            pair(bad).expect_err(bad);
        }
    }

    #[test]
    fn quantities_are_shown_as_people_read_them() {
        assert_eq!((show_cpu(500), show_cpu(2000)), ("500m".to_owned(), "2".to_owned()));
        let spans = [0, 119, 120, 7199, 7200, 172_800].map(show_span);
        assert_eq!(spans, ["0s", "119s", "2m", "119m", "2h", "2d"]);
    }
}
