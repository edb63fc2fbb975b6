//! Hosts and join tokens.

use jiff::Timestamp;
use windlass_core::size::format_bytes;
use windlass_proto::api::v1::{Host, HostLoad, JoinToken, join_token};

use super::text::{exact, map, shares, when, word};
use crate::{names, output::Show};

impl Show for Host {
    const COLUMNS: &'static [&'static str] =
        &["NAME", "STATE", "ZONE", "ENGINES", "MEMBERS", "CPU", "MEMORY", "DISK", "SEEN"];

    fn row(&self, now: Timestamp) -> Vec<String> {
        let [cpu, memory, disk] = shares(self.reserved.as_ref(), self.capacity.as_ref());
        vec![
            names::short(&self.name).to_owned(),
            state(self),
            place(self),
            self.engines.iter().map(|e| format!("{} {}", e.engine, e.version)).collect::<Vec<_>>().join(", "),
            self.members.to_string(),
            cpu,
            memory,
            disk,
            when(self.last_seen_time.as_ref(), now),
        ]
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn details(&self, now: Timestamp) -> Vec<(&'static str, String)> {
        let [cpu, memory, disk] = shares(self.reserved.as_ref(), self.capacity.as_ref());
        let engines: Vec<_> =
            self.engines.iter().map(|e| format!("{} {} ({})", e.engine, e.version, e.full_version)).collect();
        let certificate = self.certificate_expire_time.as_ref();
        vec![
            ("Name", names::short(&self.name).to_owned()),
            ("UID", self.uid.clone()),
            ("State", state(self)),
            ("Address", self.address.clone()),
            ("Region", self.region.clone()),
            ("Zone", self.zone.clone()),
            ("Labels", map(&self.labels)),
            ("Engines", engines.join(", ")),
            ("Members", self.members.to_string()),
            ("CPU reserved", format!("{cpu} × {}", self.cpu_overcommit)),
            ("Memory reserved", format!("{memory} × {}", self.memory_overcommit)),
            ("Disk reserved", format!("{disk} × {}", self.disk_overcommit)),
            ("Load", self.load.as_ref().map_or_else(String::new, load)),
            ("Cost weight", self.cost_weight.to_string()),
            ("Orphans", self.orphans.join("\n")),
            ("Agent", self.agent_version.clone()),
            ("Certificate", certificate.map_or_else(String::new, |time| format!("expires {}", exact(Some(time), now)))),
            ("Seen", exact(self.last_seen_time.as_ref(), now)),
            ("Enrolled", exact(self.create_time.as_ref(), now)),
        ]
    }
}

fn state(host: &Host) -> String {
    let state = word(host.state().as_str_name());
    if host.cordoned { format!("{state}, cordoned") } else { state }
}

fn place(host: &Host) -> String {
    let parts: Vec<_> =
        [host.region.as_str(), host.zone.as_str()].into_iter().filter(|part| !part.is_empty()).collect();
    parts.join("/")
}

fn load(load: &HostLoad) -> String {
    format!(
        "cpu {:.0} %, {} memory used, {} disk free; pressure cpu {:.1} %, memory {:.1} %, io {:.1} %",
        load.cpu_percent,
        format_bytes(load.memory_used_bytes),
        format_bytes(load.disk_free_bytes),
        load.psi_cpu,
        load.psi_memory,
        load.psi_io
    )
}

impl Show for JoinToken {
    const COLUMNS: &'static [&'static str] = &["UID", "NAME", "STATE", "EXPIRES", "AGE"];

    fn row(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.uid.clone(),
            self.host_name.clone(),
            token_state(self, now),
            when(self.expire_time.as_ref(), now),
            when(self.create_time.as_ref(), now),
        ]
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn details(&self, now: Timestamp) -> Vec<(&'static str, String)> {
        let purpose = match self.purpose() {
            join_token::Purpose::Unspecified | join_token::Purpose::Host => "host",
            join_token::Purpose::Proxy => "proxy",
        };
        vec![
            ("UID", self.uid.clone()),
            ("For a", purpose.to_owned()),
            ("Name", self.host_name.clone()),
            ("Region", self.region.clone()),
            ("Zone", self.zone.clone()),
            ("Labels", map(&self.labels)),
            ("State", token_state(self, now)),
            ("Expires", exact(self.expire_time.as_ref(), now)),
            ("Created", exact(self.create_time.as_ref(), now)),
        ]
    }
}

fn token_state(token: &JoinToken, now: Timestamp) -> String {
    let expired = token.expire_time.as_ref().is_some_and(|time| time.seconds <= now.as_second());
    if !token.used_by.is_empty() {
        format!("used by {}", names::short(&token.used_by))
    } else if token.revoked {
        "revoked".to_owned()
    } else if expired {
        "expired".to_owned()
    } else {
        "open".to_owned()
    }
}
