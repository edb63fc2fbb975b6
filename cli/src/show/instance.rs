//! Instances, their members, parameters, and what the scheduler said.

use jiff::Timestamp;
use windlass_core::size::format_bytes;
use windlass_proto::api::v1::{Endpoint, HostVerdict, Instance, Member, ParameterInfo, instance, replication};

use super::text::{exact, flag, map, size, when, word};
use crate::{names, output::Show};

impl Show for Instance {
    const COLUMNS: &'static [&'static str] = &["NAME", "ENGINE", "STATE", "HEALTH", "ENDPOINT", "SIZE", "AGE"];

    fn row(&self, now: Timestamp) -> Vec<String> {
        vec![
            names::short(&self.name).to_owned(),
            engine(self),
            word(self.state().as_str_name()),
            health(self),
            self.endpoints.first().map(address).unwrap_or_default(),
            size(self.resources.as_ref()),
            when(self.create_time.as_ref(), now),
        ]
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn details(&self, now: Timestamp) -> Vec<(&'static str, String)> {
        let placement = self.placement.clone().unwrap_or_default();
        let error = self.error.as_ref().map_or_else(String::new, |e| format!("{} ({})", e.message, e.reason));
        let generation = if self.generation == self.observed_generation {
            self.generation.to_string()
        } else {
            format!("{}, members have reached {}", self.generation, self.observed_generation)
        };
        vec![
            ("Name", names::short(&self.name).to_owned()),
            ("Project", names::project_of(&self.name).to_owned()),
            ("UID", self.uid.clone()),
            ("Engine", engine(self)),
            ("State", word(self.state().as_str_name())),
            ("Error", error),
            ("Health", health(self)),
            ("Why", self.health_reasons.join("\n")),
            ("Endpoint", endpoints(self)),
            ("Size", size(self.resources.as_ref())),
            ("Replication", replication(self)),
            ("Waits for", self.replication_status.as_ref().map(|s| s.waits.join("\n")).unwrap_or_default()),
            ("Members", self.members.iter().map(|m| member(m, now)).collect::<Vec<_>>().join("\n")),
            ("Parameters", map(&self.parameters)),
            ("Needs restart", self.pending_restart.join(", ")),
            ("Labels", map(&self.labels)),
            ("Region", placement.region),
            ("Zone", placement.zone),
            ("Host labels", map(&placement.host_labels)),
            ("Protected", flag(self.deletion_protection)),
            ("Generation", generation),
            ("Last operation", self.last_operation.clone()),
            ("Created", exact(self.create_time.as_ref(), now)),
            ("Changed", exact(self.update_time.as_ref(), now)),
            ("Deleted", exact(self.delete_time.as_ref(), now)),
            ("Purged", exact(self.purge_time.as_ref(), now)),
        ]
    }
}

fn engine(instance: &Instance) -> String {
    format!("{} {}", instance.engine, instance.version)
}

/// What is promised, and where it stands.
fn replication(instance: &Instance) -> String {
    let Some(status) = &instance.replication_status else { return String::new() };
    let wanted = instance.replication.unwrap_or_default();
    let policy = match wanted.durability() {
        replication::Durability::Unspecified | replication::Durability::Availability => "alone if none is left",
        replication::Durability::Durability => "wait if none is left",
    };
    let commits = match status.acknowledging.len() {
        0 => "commits wait for nobody".to_owned(),
        of => format!("commits wait for {} of {of}", status.acknowledgements),
    };
    format!("{}, epoch {}: {commits}; {policy}", status.phase, status.epoch)
}

/// Health means something only while the instance is meant to serve.
fn health(instance: &Instance) -> String {
    match instance.state() {
        instance::State::Running | instance::State::Modifying | instance::State::Error => {
            word(instance.health().as_str_name())
        }
        instance::State::Unspecified
        | instance::State::Pending
        | instance::State::Creating
        | instance::State::Stopping
        | instance::State::Stopped
        | instance::State::Suspended
        | instance::State::Deleting
        | instance::State::Deleted => String::new(),
    }
}

fn address(endpoint: &Endpoint) -> String {
    format!("{}:{}", endpoint.host, endpoint.port)
}

/// One needs no explanation; of several each says what is behind it.
fn endpoints(instance: &Instance) -> String {
    match instance.endpoints.as_slice() {
        [only] => address(only),
        several => {
            let line = |e: &Endpoint| format!("{} ({}, {})", address(e), e.role, e.via);
            several.iter().map(line).collect::<Vec<_>>().join("\n")
        }
    }
}

fn member(member: &Member, now: Timestamp) -> String {
    let seen = member.observed_time.as_ref().map_or("never reported".to_owned(), |time| when(Some(time), now));
    let zone = if member.zone.is_empty() { String::new() } else { format!(" in {}", member.zone) };
    let role = if member.asynchronous { "asynchronous replica" } else { &member.role };
    let state = match (member.replica_state.as_str(), member.role.as_str()) {
        ("", _) => String::new(),
        (state, "primary") => format!(", {state}"),
        (state, _) => format!(", {state}, {} behind", format_bytes(member.lag_bytes)),
    };
    format!(
        "{role} on {}{zone}, port {}: {}{state} ({seen}), {} connections, {} memory, {} disk",
        names::short(&member.host),
        member.port,
        member.process,
        member.connections,
        format_bytes(member.memory_used_bytes),
        format_bytes(member.disk_used_bytes)
    )
}

impl Show for Member {
    const COLUMNS: &'static [&'static str] = &["HOST", "ZONE", "ROLE", "STATE", "LAG", "PORT", "PROCESS", "UID"];

    fn row(&self, _now: Timestamp) -> Vec<String> {
        let role = if self.asynchronous { format!("{}, asynchronous", self.role) } else { self.role.clone() };
        let lag = if self.replica_state.is_empty() || self.role == "primary" {
            String::new()
        } else {
            format_bytes(self.lag_bytes)
        };
        vec![
            names::short(&self.host).to_owned(),
            self.zone.clone(),
            role,
            self.replica_state.clone(),
            lag,
            self.port.to_string(),
            self.process.clone(),
            self.uid.clone(),
        ]
    }

    fn name(&self) -> String {
        self.uid.clone()
    }
}

impl Show for HostVerdict {
    const COLUMNS: &'static [&'static str] = &["HOST", "VERDICT", "SCORE", "WHY"];

    fn row(&self, _now: Timestamp) -> Vec<String> {
        let fits = self.rejections.is_empty();
        let verdict = match (self.chosen, fits) {
            (true, _) => "chosen",
            (false, true) => "fits",
            (false, false) => "rejected",
        };
        let parts: Vec<_> = self.score_parts.iter().map(|(part, value)| format!("{part} {value:.2}")).collect();
        vec![
            names::short(&self.host).to_owned(),
            verdict.to_owned(),
            if fits { format!("{:.3}", self.score) } else { String::new() },
            if fits { parts.join(", ") } else { self.rejections.join("\n") },
        ]
    }

    fn name(&self) -> String {
        self.host.clone()
    }
}

impl Show for ParameterInfo {
    const COLUMNS: &'static [&'static str] = &["PARAMETER", "VALUE", "ORIGIN", "APPLIES", "ALLOWED"];

    fn row(&self, _now: Timestamp) -> Vec<String> {
        let applies = match (self.pending_restart, self.apply.as_str()) {
            (true, _) => "waits for a restart",
            (false, "RESTART") => "after a restart",
            (false, _) => "at once",
        };
        vec![self.name.clone(), self.value.clone(), self.origin.clone(), applies.to_owned(), self.domain.clone()]
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}
