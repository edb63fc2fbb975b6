//! Small texts that several tables share.

use std::collections::BTreeMap;

use jiff::Timestamp;
use pbjson_types::Timestamp as ProtoTime;
use windlass_core::size::format_bytes;
use windlass_proto::api::v1::Resources;

use crate::units::{show_cpu, show_span};

/// How long ago, or how far ahead: `3m ago`, `in 2d`. Empty if there is no time.
pub(crate) fn when(time: Option<&ProtoTime>, now: Timestamp) -> String {
    let Some(time) = time else { return String::new() };
    let seconds = now.as_second().saturating_sub(time.seconds);
    let span = show_span(seconds.unsigned_abs());
    match seconds {
        0 => "now".to_owned(),
        1.. => format!("{span} ago"),
        ..0 => format!("in {span}"),
    }
}

/// The time itself and how long ago.
pub(crate) fn exact(time: Option<&ProtoTime>, now: Timestamp) -> String {
    let Some(given) = time else { return String::new() };
    match Timestamp::from_second(given.seconds) {
        Ok(stamp) => format!("{stamp} ({})", when(time, now)),
        Err(_) => when(time, now),
    }
}

/// `a=1, b=2`.
pub(crate) fn map(map: &BTreeMap<String, String>) -> String {
    map.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
}

/// `500m cpu, 512 MiB memory, 2 GiB disk`.
pub(crate) fn size(resources: Option<&Resources>) -> String {
    resources.map_or_else(String::new, |r| {
        let (memory, disk) = (format_bytes(r.memory_bytes), format_bytes(r.disk_bytes));
        format!("{} cpu, {memory} memory, {disk} disk", show_cpu(r.cpu_millis))
    })
}

/// `used / limit` of each part of a size, as cells for cpu, memory and disk.
pub(crate) fn shares(used: Option<&Resources>, limit: Option<&Resources>) -> [String; 3] {
    let (used, limit) = (used.copied().unwrap_or_default(), limit.copied().unwrap_or_default());
    [
        format!("{} / {}", show_cpu(used.cpu_millis), show_cpu(limit.cpu_millis)),
        format!("{} / {}", format_bytes(used.memory_bytes), format_bytes(limit.memory_bytes)),
        format!("{} / {}", format_bytes(used.disk_bytes), format_bytes(limit.disk_bytes)),
    ]
}

/// The word of a proto enum; `UNSPECIFIED` reads as nothing.
pub(crate) fn word(name: &str) -> String {
    if name.ends_with("_UNSPECIFIED") { String::new() } else { name.to_owned() }
}

/// `yes`, or nothing.
pub(crate) fn flag(set: bool) -> String {
    if set { "yes".to_owned() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_relative_to_now() {
        let now = Timestamp::from_second(1_000_000).expect("in range");
        let at = |seconds| Some(ProtoTime { seconds, nanos: 0 });
        let texts = [1_000_000, 999_990, 996_400, 1_000_090].map(|seconds| when(at(seconds).as_ref(), now));
        assert_eq!(texts, ["now", "10s ago", "60m ago", "in 90s"]);
        assert_eq!(when(None, now), "");
        assert_eq!(exact(at(999_990).as_ref(), now), "1970-01-12T13:46:30Z (10s ago)");
    }
}
