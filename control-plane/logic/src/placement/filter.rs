//! The rules a host must pass, and the sentence for each that it breaks.
//!
//! One function decides and one words it, over the same closed list, so that an explanation cannot contradict a
//! decision. Deciding allocates nothing: it runs for every host at each placement.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use windlass_core::size::{Resources, format_bytes};

use super::{HostView, PlacementRequest};

windlass_core::words! {
    /// What a host must be. In the order in which they are tried: cheap and telling ones first.
    pub enum Rule {
        /// Its certificate is valid.
        Revoked = "revoked",
        /// Its agent polls.
        Offline = "offline",
        /// No operator has cordoned it.
        Cordoned = "cordoned",
        /// Free memory, overcommit included.
        Memory = "memory",
        /// Free processor share, overcommit included.
        Cpu = "cpu",
        /// Free disk, overcommit included.
        Disk = "disk",
        /// A port for the member.
        Ports = "ports",
        /// No other member of the same instance on it.
        AntiAffinity = "anti-affinity",
        /// The engine in the version asked for.
        Engine = "engine",
        /// The region asked for.
        Region = "region",
        /// The zone asked for.
        Zone = "zone",
        /// The labels asked for.
        Labels = "labels",
    }
}

/// One rule that a host breaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// Which rule.
    pub rule: Rule,
    /// A sentence with numbers, for people.
    pub message: String,
}

/// Whether the host passes every rule.
pub fn passes(request: &PlacementRequest, host: &HostView) -> bool {
    Rule::ALL.iter().all(|rule| !breaks(*rule, request, host))
}

/// Every rule that the host breaks, with its sentence; empty if it fits.
pub fn rejections(request: &PlacementRequest, host: &HostView) -> Vec<Rejection> {
    broken(request, host).map(|rule| Rejection { rule, message: sentence(rule, request, host) }).collect()
}

/// The rules that the host breaks.
pub(super) fn broken(request: &PlacementRequest, host: &HostView) -> impl Iterator<Item = Rule> {
    Rule::ALL.iter().copied().filter(|rule| breaks(*rule, request, host))
}

fn breaks(rule: Rule, request: &PlacementRequest, host: &HostView) -> bool {
    let short = |part: fn(&Resources) -> u64| {
        part(&host.reserved).saturating_add(part(&request.resources)) > part(&host.limit())
    };
    let differs = |wanted: &str, own: &str| !wanted.is_empty() && wanted != own;
    match rule {
        Rule::Revoked => host.revoked,
        Rule::Offline => !host.online,
        Rule::Cordoned => host.cordoned,
        Rule::Memory => short(|r| r.memory_bytes),
        Rule::Cpu => short(|r| r.cpu_millis),
        Rule::Disk => short(|r| r.disk_bytes),
        Rule::Ports => host.ports.free() == 0,
        Rule::AntiAffinity => host.instance_members > 0,
        Rule::Engine => !host.engines.iter().any(|(e, v)| *e == request.engine && *v == request.version),
        Rule::Region => differs(&request.rules.region, &host.region),
        Rule::Zone => differs(&request.rules.zone, &host.zone),
        Rule::Labels => missing_labels(&request.rules.host_labels, &host.labels).next().is_some(),
    }
}

fn missing_labels<'a>(
    wanted: &'a BTreeMap<String, String>,
    own: &'a BTreeMap<String, String>,
) -> impl Iterator<Item = (&'a String, &'a String)> {
    wanted.iter().filter(|(key, value)| own.get(*key) != Some(*value))
}

fn sentence(rule: Rule, request: &PlacementRequest, host: &HostView) -> String {
    match rule {
        Rule::Revoked => "its certificate was revoked; enrol it again with a new join token".to_owned(),
        Rule::Offline => "its agent does not answer; start it or check its connection".to_owned(),
        Rule::Cordoned => "it is cordoned; uncordon it to use it".to_owned(),
        Rule::Memory => capacity(" of memory", request, host, |r| r.memory_bytes, host.overcommit.memory, format_bytes),
        Rule::Cpu => capacity("", request, host, |r| r.cpu_millis, host.overcommit.cpu, cores),
        Rule::Disk => capacity(" of disk", request, host, |r| r.disk_bytes, host.overcommit.disk, format_bytes),
        Rule::Ports if host.ports.total() == 0 => "it has reported no ports for members".to_owned(),
        Rule::Ports => {
            format!("all {} ports from {} to {} are taken", host.ports.total(), host.ports.low, host.ports.high)
        }
        Rule::AntiAffinity => "it already holds a member of this instance".to_owned(),
        Rule::Engine => {
            let mut has: Vec<_> = host.engines.iter().map(|(engine, version)| format!("{engine} {version}")).collect();
            has.sort();
            let has = if has.is_empty() { "no engine".to_owned() } else { has.join(", ") };
            format!("it has {has}, not {} {}", request.engine, request.version)
        }
        Rule::Region => elsewhere("region", &host.region, &request.rules.region),
        Rule::Zone => elsewhere("zone", &host.zone, &request.rules.zone),
        Rule::Labels => {
            let missing: Vec<_> = missing_labels(&request.rules.host_labels, &host.labels)
                .map(|(key, value)| match host.labels.get(key) {
                    Some(own) => format!("{key}={value} (it has {key}={own})"),
                    None => format!("{key}={value}"),
                })
                .collect();
            format!("it lacks the label {}", missing.join(", "))
        }
    }
}

fn elsewhere(what: &str, own: &str, wanted: &str) -> String {
    if own.is_empty() {
        format!("it has no {what}, not {wanted}")
    } else {
        format!("it is in {what} {own}, not {wanted}")
    }
}

fn cores(millis: u64) -> String {
    format!("{} cores", millis as f64 / 1000.0)
}

fn capacity(
    what: &str,
    request: &PlacementRequest,
    host: &HostView,
    part: fn(&Resources) -> u64,
    overcommit: f64,
    show: fn(u64) -> String,
) -> String {
    let limit = part(&host.limit());
    format!(
        "it has {}{what} free out of {} ({} × overcommit {overcommit}), {} asked",
        show(limit.saturating_sub(part(&host.reserved))),
        show(limit),
        show(part(&host.capacity)),
        show(part(&request.resources)),
    )
}
