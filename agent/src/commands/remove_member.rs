//! `member.remove`: stop a member, take it away, and put its data aside or delete it.

use windlass_core::Error;
use windlass_proto::agent::v1 as pb;

use super::{CommandTarget, Order};
use crate::members::Disposal;

pub(super) async fn run(
    target: &dyn CommandTarget,
    order: &Order,
    body: pb::RemoveMember,
) -> Result<pb::MemberFacts, Error> {
    target.remove(order, if body.purge { Disposal::Purge } else { Disposal::Retain }).await
}
