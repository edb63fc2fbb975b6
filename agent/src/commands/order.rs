//! What every command says beside its body, checked.

use std::time::Duration;

use windlass_core::{
    Error,
    id::{CommandId, InstanceId, MemberId},
};
use windlass_proto::agent::v1 as pb;

/// How long a command may take that does not say so.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);
/// The longest that a command may take.
const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// The head of a command.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// Which command it is.
    pub uid: CommandId,
    /// The instance that it belongs to.
    pub instance: InstanceId,
    /// The member that it is about.
    pub member: MemberId,
    /// Generation of the instance's spec that it stems from.
    pub generation: u64,
    /// How long it may take.
    pub timeout: Duration,
}

impl Order {
    /// Reads the head of a command.
    ///
    /// # Errors
    /// `INVALID_FIELD` naming the id that is none.
    pub fn of(command: &pb::Command) -> Result<Self, Error> {
        let timeout = command.timeout.and_then(|t| Duration::try_from(t).ok()).filter(|t| !t.is_zero());
        Ok(Self {
            uid: command.uid.parse()?,
            instance: command.instance_id.parse()?,
            member: command.member_id.parse()?,
            generation: command.generation,
            timeout: timeout.unwrap_or(DEFAULT_TIMEOUT).min(MAX_TIMEOUT),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_id_is_named_and_a_missing_timeout_has_a_default() {
        let id = MemberId::new().to_string();
        let good = pb::Command {
            uid: id.clone(),
            instance_id: id.clone(),
            member_id: id,
            timeout: Some(pbjson_types::Duration { seconds: -1, nanos: 0 }),
            ..pb::Command::default()
        };
        assert_eq!(Order::of(&good).expect("good").timeout, DEFAULT_TIMEOUT);
        let bad = pb::Command { member_id: "../../etc".to_owned(), ..good };
        assert_eq!(Order::of(&bad).expect_err("no UUID").violations[0].field, "member_id");
    }
}
