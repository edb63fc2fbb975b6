//! `object.apply`: create, change or drop a user, database or extension of a member.

use windlass_core::Error;
use windlass_proto::agent::v1 as pb;

use super::{CommandTarget, Order};

pub(super) async fn run(
    target: &dyn CommandTarget,
    order: &Order,
    body: pb::ApplyObject,
) -> Result<pb::MemberFacts, Error> {
    if body.kind() == pb::apply_object::Kind::Unspecified {
        return Err(Error::invalid("apply_object.kind", "is missing or newer than this agent; upgrade the agent"));
    }
    target.apply_object(order, body).await
}
