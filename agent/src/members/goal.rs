//! The goal of a member: parsed from the wire, and kept on disk.
//!
//! Owns: `goal.json`. Invariants: it is written before the first effect of a change and again after the last; while a
//! change is under way it also holds the former goal, so that a change that fails can be taken back after a crash too.

use std::{collections::BTreeMap, path::Path};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use windlass_core::{
    Error, Reason,
    engine::Engine,
    id::{InstanceId, MemberId},
};
use windlass_proto::agent::v1::{self as pb, member_goal};

use crate::{
    engines::{Kinship, object::Object},
    host::{Limits, files},
};

/// Name of the file in a member's directory.
pub(super) const FILE: &str = "goal.json";

/// What a member shall be.
#[derive(Debug, Clone)]
pub(super) struct Goal {
    pub(super) instance: InstanceId,
    pub(super) member: MemberId,
    pub(super) title: String,
    pub(super) generation: u64,
    pub(super) engine: Engine,
    pub(super) version: String,
    pub(super) port: u16,
    pub(super) limits: Limits,
    pub(super) parameters: BTreeMap<String, String>,
    pub(super) power: Power,
    pub(super) restarts: u64,
    pub(super) source: Source,
    pub(super) kinship: Kinship,
    pub(super) admin: Option<Object>,
}

/// Whether it shall run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Power {
    On,
    Off,
}

/// Where a missing data directory comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Existing,
    Initialise,
    Retained,
    /// Copied by replication from the leader, once there is one to follow.
    Cloned,
}

/// How far a member is on its way to the goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    /// It is being made; if that fails, nothing stays.
    Creating,
    /// It is being changed from `previous`.
    Changing,
    /// It is as the goal says.
    Applied,
    /// It is being removed, its data put aside.
    Retiring,
    /// It is being removed with its data.
    Purging,
}

/// What is on disk of a member.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) phase: Phase,
    pub(super) goal: pb::MemberGoal,
    pub(super) previous: Option<pb::MemberGoal>,
    /// Restarts that were asked for and done.
    pub(super) restarts_done: u64,
    /// The process that a restart under way replaces; once another runs, the restart is done.
    pub(super) replaces: Option<(i32, Timestamp)>,
    /// Whether the administrator's verifier was set.
    pub(super) admin_done: bool,
}

impl Goal {
    /// Parses a goal.
    ///
    /// # Errors
    /// `INVALID_FIELD` naming the field.
    pub(super) fn parse(order: &pb::MemberGoal) -> Result<Self, Error> {
        let engine: Engine = order.engine.parse()?;
        let power = match member_goal::Power::try_from(order.power) {
            Ok(member_goal::Power::On) => Power::On,
            Ok(member_goal::Power::Off) => Power::Off,
            Ok(member_goal::Power::Unspecified) | Err(_) => return Err(Error::invalid("goal.power", "is missing")),
        };
        let source = match member_goal::DataSource::try_from(order.data) {
            Ok(member_goal::DataSource::Initialise) => Source::Initialise,
            Ok(member_goal::DataSource::Retained) => Source::Retained,
            Ok(member_goal::DataSource::Cloned) => Source::Cloned,
            Ok(member_goal::DataSource::Existing | member_goal::DataSource::Unspecified) | Err(_) => Source::Existing,
        };
        if order.replicated && engine != Engine::Postgres {
            let message = format!("{} cannot be replicated yet", engine.descriptor().title);
            return Err(Error::invalid("goal.replicated", message));
        }
        let port = u16::try_from(order.port).ok().filter(|port| *port > 0);
        let port = port.ok_or_else(|| Error::invalid("goal.port", format!("{} is not 1 to 65535", order.port)))?;
        Ok(Self {
            instance: order.instance_id.parse()?,
            member: order.member_id.parse()?,
            title: order.title.clone(),
            generation: order.generation,
            engine,
            version: order.version.clone(),
            port,
            limits: Limits { cpu_millis: order.cpu_millis, memory_bytes: order.memory_bytes },
            parameters: order.parameters.clone(),
            power,
            restarts: order.restarts,
            source,
            kinship: if order.replicated { Kinship::Replicated } else { Kinship::Single },
            admin: order.admin.as_ref().map(|admin| Object::parse(engine, admin)).transpose()?,
        })
    }
}

impl Stored {
    /// Reads the file of a member's directory; None if there is none.
    ///
    /// # Errors
    /// `DATA_DIRECTORY_INVALID` if it cannot be read as a goal.
    pub(super) fn read(root: &Path) -> Result<Option<Self>, Error> {
        let path = root.join(FILE);
        let Some(text) = files::read_text(&path)? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|error| {
            let message = format!("{} cannot be read as a goal: {error}", path.display());
            Error::precondition(Reason::DataDirectoryInvalid, message).with_source(error)
        })
    }

    /// Writes the file so that it survives power loss.
    ///
    /// # Errors
    /// `DISK_FULL`, `INTERNAL`.
    pub(super) fn write(&self, root: &Path) -> Result<(), Error> {
        let bytes =
            serde_json::to_vec_pretty(self).map_err(|error| Error::internal("a goal is no JSON").with_source(error))?;
        files::write_durably(&root.join(FILE), &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> pb::MemberGoal {
        pb::MemberGoal {
            instance_id: InstanceId::new().to_string(),
            member_id: MemberId::new().to_string(),
            engine: "postgres".into(),
            version: "15".into(),
            port: 5432,
            power: member_goal::Power::On.into(),
            data: member_goal::DataSource::Initialise.into(),
            generation: 3,
            ..Default::default()
        }
    }

    #[test]
    fn bad_goals_are_refused_by_field() {
        for (field, order) in [
            ("goal.port", pb::MemberGoal { port: 70_000, ..order() }),
            ("goal.power", pb::MemberGoal { power: 0, ..order() }),
            ("member_id", pb::MemberGoal { member_id: "x".into(), ..order() }),
        ] {
            assert_eq!(Goal::parse(&order).expect_err(field).violations[0].field, field);
        }
        let error = Goal::parse(&pb::MemberGoal { engine: "postgre".into(), ..order() }).expect_err("engine");
        assert!(error.message.contains("did you mean postgres?"), "{error}");
    }

    #[test]
    fn what_is_stored_comes_back_and_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("dir");
        assert!(Stored::read(dir.path()).expect("none").is_none());
        let stored = Stored {
            phase: Phase::Changing,
            goal: order(),
            previous: Some(order()),
            restarts_done: 2,
            replaces: Some((42, Timestamp::UNIX_EPOCH)),
            admin_done: true,
        };
        stored.write(dir.path()).expect("write");
        let read = Stored::read(dir.path()).expect("read").expect("there");
        assert_eq!((read.goal, read.phase, read.replaces), (stored.goal, stored.phase, stored.replaces));
        let mode = std::fs::metadata(dir.path().join(FILE)).expect("stat").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(dir.path().join(FILE), "{").expect("spoil");
        assert_eq!(Stored::read(dir.path()).expect_err("spoilt").reason, Reason::DataDirectoryInvalid);
    }
}
