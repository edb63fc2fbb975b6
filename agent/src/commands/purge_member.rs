//! `member.purge`: delete data that was put aside.

use windlass_core::Error;
use windlass_proto::agent::v1 as pb;

use super::{CommandTarget, Order};

pub(super) async fn run(target: &dyn CommandTarget, order: &Order) -> Result<pb::MemberFacts, Error> {
    target.purge(order).await
}
