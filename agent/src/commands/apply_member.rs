//! `member.apply`: bring a member to a goal. The only command that can be cancelled while it runs.

use tokio_util::sync::CancellationToken;
use windlass_core::Error;
use windlass_proto::agent::v1 as pb;

use super::{CommandTarget, Order};

pub(super) async fn run(
    target: &dyn CommandTarget,
    order: &Order,
    body: pb::ApplyMember,
    cancel: &CancellationToken,
) -> Result<pb::MemberFacts, Error> {
    let goal = body.goal.ok_or_else(|| Error::invalid("apply_member.goal", "is missing"))?;
    // The goal is stored and acted on without the command later on, so it must name the same member.
    for (field, goal, command) in [
        ("apply_member.goal.member_id", &goal.member_id, order.member.to_string()),
        ("apply_member.goal.instance_id", &goal.instance_id, order.instance.to_string()),
    ] {
        if *goal != command {
            return Err(Error::invalid(field, format!("{goal:?} is not the {command} that the command is for")));
        }
    }
    target.apply(order, goal, cancel).await
}
