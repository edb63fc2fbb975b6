//! Between the agents' messages and what the control plane works with. Pure.
//!
//! Text of agents may end in JSON columns, which refuse NUL: it is taken out here.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};
use windlass_core::{
    Error,
    command::CommandState,
    error::FieldViolation,
    id::{CommandId, HostId},
    parameter::Catalogue,
    size::Resources,
};
use windlass_db::{
    agents::AgentHello,
    commands::{ClaimedCommand, CommandReport},
};
use windlass_kit::token::digest;
use windlass_proto::agent::v1 as pb;

use crate::pki::SignedCert;

/// Longest text of an agent that is kept, in bytes.
const LONGEST: usize = 64 * 1024;

pub(super) fn duration(duration: SignedDuration) -> pbjson_types::Duration {
    pbjson_types::Duration { seconds: duration.as_secs(), nanos: duration.subsec_nanos() }
}

fn timestamp(time: Timestamp) -> pbjson_types::Timestamp {
    pbjson_types::Timestamp { seconds: time.as_second(), nanos: time.subsec_nanosecond() }
}

pub(super) fn bundle(signed: SignedCert, ca_pem: &str) -> pb::CertificateBundle {
    pb::CertificateBundle {
        chain_pem: signed.chain_pem,
        ca_pem: ca_pem.to_owned(),
        not_before: Some(timestamp(signed.not_before)),
        not_after: Some(timestamp(signed.not_after)),
    }
}

/// What an agent says of itself, checked.
pub(super) fn hello(hello: pb::HelloRequest) -> Result<AgentHello, Error> {
    let mut wrong = Vec::new();
    let mut refuse = |field: &str, description: String| {
        wrong.push(FieldViolation { field: field.to_owned(), description });
    };
    if hello.session_id.is_empty() {
        refuse("session_id", "must be set, new for each start of the agent".to_owned());
    }
    let port = |port: u32| u16::try_from(port).ok().filter(|port| *port > 0);
    let ports = port(hello.port_low).zip(port(hello.port_high)).filter(|(low, high)| low <= high);
    if ports.is_none() {
        let given = format!("{} to {}", hello.port_low, hello.port_high);
        refuse(
            "port_low",
            format!("{given} is not a range of ports within 1 to 65535; correct it in the agent's file"),
        );
    }
    if !wrong.is_empty() {
        return Err(Error::violations(wrong));
    }
    let (port_low, port_high) = ports.unwrap_or_default();
    let capacity = hello.capacity.unwrap_or_default();
    let engines: Vec<_> = hello.engines.iter().map(engine).collect();
    Ok(AgentHello {
        agent_version: clean(&hello.agent_version),
        boot_id: clean(&hello.boot_id),
        session_id: clean(&hello.session_id),
        capacity: Resources {
            cpu_millis: capacity.cpu_millis,
            memory_bytes: capacity.memory_bytes,
            disk_bytes: capacity.disk_bytes,
        },
        address: clean(&hello.address),
        port_low,
        port_high,
        // No port means that it has no peers, which is not worth refusing it.
        peer_port: u16::try_from(hello.peer_port).unwrap_or(0),
        engines: Value::Array(engines),
    })
}

fn engine(engine: &pb::EngineVersion) -> Value {
    json!({
        "engine": clean(&engine.engine),
        "version": clean(&engine.version),
        "full_version": clean(&engine.full_version),
        "catalogue_digest": clean(&engine.catalogue_digest),
    })
}

/// A leased command as the agent gets it. None, logged, when its stored form is not one of this version.
pub(super) fn command(claimed: ClaimedCommand) -> Option<pb::Command> {
    let stored: pb::Command = match serde_json::from_value(claimed.args) {
        Ok(stored) => stored,
        Err(error) => {
            tracing::error!(command = %claimed.uid, %error, "a stored command cannot be read");
            return None;
        }
    };
    Some(pb::Command {
        uid: claimed.uid.to_string(),
        attempt: claimed.attempt.unsigned_abs(),
        epoch: claimed.epoch.unsigned_abs(),
        generation: claimed.generation.unsigned_abs(),
        instance_id: claimed.instance.map(|id| id.to_string()).unwrap_or_default(),
        member_id: claimed.member.map(|id| id.to_string()).unwrap_or_default(),
        timeout: Some(duration(claimed.timeout)),
        body: stored.body,
    })
}

/// A result as it is stored.
pub(super) fn report(host: HostId, uid: CommandId, result: pb::CommandResult) -> CommandReport {
    let unknown = || pb::Failure {
        reason: "INTERNAL".to_owned(),
        message: "the agent sent a result that this control plane does not know".to_owned(),
        retryable: false,
    };
    let (state, result_json) = match result.outcome {
        Some(pb::command_result::Outcome::Succeeded(facts)) => (CommandState::Succeeded, stored(&facts)),
        Some(pb::command_result::Outcome::Failed(failure)) => (CommandState::Failed, stored(&failure)),
        Some(pb::command_result::Outcome::Cancelled(_)) => (CommandState::Cancelled, Value::Null),
        None => (CommandState::Failed, stored(&unknown())),
    };
    let attempt = i32::try_from(result.attempt).unwrap_or(i32::MAX);
    CommandReport { uid, host, attempt, state, result: result_json }
}

/// A heartbeat whose texts can be stored.
pub(super) fn beat(mut beat: pb::HeartbeatRequest) -> pb::HeartbeatRequest {
    for happening in &mut beat.happenings {
        happening.kind = clean(&happening.kind);
        happening.message = clean(&happening.message);
    }
    for member in &mut beat.members {
        member.problem = clean(&member.problem);
        member.engine_identity = clean(&member.engine_identity);
        member.position = clean(&member.position);
        for name in &mut member.pending_restart {
            *name = clean(name);
        }
    }
    for orphan in &mut beat.orphans {
        *orphan = clean(orphan);
    }
    beat
}

/// The catalogue of a request, if it is one and its digest is right.
pub(super) fn catalogue(request: &pb::PutCatalogueRequest) -> Result<Value, Error> {
    if hex::encode(digest(request.catalogue_json.as_bytes())) != request.digest {
        return Err(Error::invalid("digest", "is not the hex SHA-256 of catalogue_json"));
    }
    let unreadable = |error| Error::invalid("catalogue_json", format!("is not a catalogue: {error}"));
    let catalogue: Catalogue = serde_json::from_str(&request.catalogue_json).map_err(unreadable)?;
    serde_json::to_value(catalogue).map(without_nul).map_err(unreadable)
}

fn stored(message: &impl Serialize) -> Value {
    serde_json::to_value(message).map(without_nul).unwrap_or(Value::Null)
}

fn without_nul(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(clean(&text)),
        Value::Array(values) => values.into_iter().map(without_nul).collect(),
        Value::Object(fields) => fields.into_iter().map(|(key, value)| (clean(&key), without_nul(value))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}

fn clean(text: &str) -> String {
    let end = text.floor_char_boundary(LONGEST);
    text[..end].replace('\0', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_with_nonsense_names_each_field() {
        let error = hello(pb::HelloRequest { port_low: 10, port_high: 5, ..Default::default() }).expect_err("nonsense");
        let fields: Vec<_> = error.violations.iter().map(|v| v.field.as_str()).collect();
        assert_eq!(fields, ["session_id", "port_low"]);
        let good = pb::HelloRequest { session_id: "s".into(), port_low: 5, port_high: 70000, ..Default::default() };
        assert!(hello(good).expect_err("no such port").message.contains("65535"));
    }

    #[test]
    fn results_are_stored_by_their_outcome_and_without_nul() {
        let (host, uid) = (HostId::new(), CommandId::new());
        let failure = pb::Failure { reason: "DISK_FULL".into(), message: "a\0b".into(), retryable: true };
        let outcome = Some(pb::command_result::Outcome::Failed(failure));
        let stored = report(host, uid, pb::CommandResult { uid: String::new(), attempt: 3, outcome });
        assert_eq!((stored.state, stored.attempt), (CommandState::Failed, 3));
        assert_eq!(stored.result, json!({"reason": "DISK_FULL", "message": "ab", "retryable": true}));
        let nothing = report(host, uid, pb::CommandResult::default());
        assert_eq!(nothing.state, CommandState::Failed);
    }

    #[test]
    fn a_catalogue_must_match_its_digest() {
        let request =
            pb::PutCatalogueRequest { catalogue_json: "{}".into(), digest: "00".into(), ..Default::default() };
        assert_eq!(catalogue(&request).expect_err("wrong").violations[0].field, "digest");
    }

    #[test]
    fn long_text_is_cut_at_a_character() {
        let text = "ü".repeat(LONGEST);
        assert_eq!(clean(&text).len(), LONGEST);
        assert_eq!(clean(&format!("a{text}")).len(), LONGEST - 1);
    }
}
