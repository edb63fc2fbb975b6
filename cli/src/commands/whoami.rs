//! `windlass whoami`

use windlass_proto::api::v1 as pb;

use crate::{context::Context, failure::Failure};

pub(super) async fn run(cx: &Context) -> Result<(), Failure> {
    let api = cx.api().await?;
    let key = api.call(async || api.keys().who_am_i(pb::WhoAmIRequest {}).await).await?;
    cx.out.one(&key)
}
