//! Removing replicas from an instance that serves, the last ones too.
//!
//! They leave the ack set first, which a cancel can still take back; then their data goes. An instance that is left with
//! one member keeps its cluster, which commits alone.

use std::collections::BTreeSet;

use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use windlass_core::{
    Error,
    id::{InstanceId, MemberId},
    instance::{InstanceSpec, LifecycleEvent},
    operation::OperationKind,
    replication::Replication,
};
use windlass_db::{events::NewEvent, instances, members::MemberRow, reservations};

use super::{
    Outcome, Progress, Saga, Step, StepContext, StepFuture,
    goal::DataSource,
    members::{self, Applied, Team},
    observe, replication,
};

/// Removes replicas.
#[derive(Debug)]
pub struct ReplicaRemove;

/// State of [`ReplicaRemove`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Data {
    /// The instance.
    pub instance: InstanceId,
    /// The members that go.
    pub members: BTreeSet<MemberId>,
    /// What was wanted before.
    pub before: Replication,
    /// Until when it may be waited for.
    pub until: Option<Timestamp>,
}

impl Data {
    fn going(&self, team: &Team) -> Vec<MemberRow> {
        team.members.iter().filter(|member| self.members.contains(&member.id)).cloned().collect()
    }
}

impl Saga for ReplicaRemove {
    const KIND: OperationKind = OperationKind::ReplicaRemove;
    const VERSION: i32 = 1;
    type Data = Data;

    fn steps() -> Vec<Step<Self>> {
        vec![
            Step::undoable("leave", "Taking it out of the acknowledging members", leave, stay),
            Step::pivot("remove", "Removing its data", remove),
            Step::forward("release", "Giving back what it reserved", release),
            Step::forward("settle", "Telling the others", settle),
        ]
    }

    fn finish<'a>(ctx: &'a mut StepContext, data: &'a Data, outcome: &'a Outcome) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let target = ctx.target().to_owned();
            let event = match outcome {
                Outcome::Succeeded => {
                    let what = if data.members.len() == 1 { "a replica was removed" } else { "replicas were removed" };
                    NewEvent::info("replica.removed", target, what)
                }
                Outcome::Failed(error) => {
                    NewEvent::error("replica.remove_failed", target, format!("it failed: {error}"))
                }
                Outcome::Cancelled => NewEvent::info("replica.remove_cancelled", target, "it was cancelled"),
            };
            instances::instance_advance_tx(ctx.tx(), data.instance, LifecycleEvent::Served, None).await?;
            observe::refresh_tx(ctx.tx(), &[data.instance]).await?;
            ctx.event(event).await
        })
    }
}

fn leave<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move { replication::until_out(ctx, data.instance, &data.members, &mut data.until).await })
}

/// They belong to the instance again.
fn stay<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        let team = members::load(ctx, data.instance).await?;
        if team.instance.spec.replication != data.before {
            let spec = InstanceSpec { replication: data.before.clone(), ..team.instance.spec.clone() };
            instances::instance_set_spec_tx(ctx.tx(), data.instance, &spec).await?;
        }
        replication::readmit(ctx, data.instance, &data.going(&team)).await
    })
}

fn remove<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        let team = members::load(ctx, data.instance).await?;
        let going = data.going(&team);
        members::take_away_or_leave(ctx, &team.instance, &going, &members::remove_with_data()).await
    })
}

fn release<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        let team = members::load(ctx, data.instance).await?;
        for member in data.going(&team) {
            reservations::member_delete_tx(ctx.tx(), member.id).await?;
        }
        replication::dismiss(ctx, data.instance, &data.members, &team.instance.spec.replication).await?;
        Progress::done("its host and quota are free again")
    })
}

fn settle<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        let team = members::load(ctx, data.instance).await?;
        let here = members::reachable(&team.members);
        match members::apply(ctx, "settle", &team, &here, DataSource::Existing).await? {
            Applied::Waiting(progress) => Ok(progress),
            Applied::Failed { error, .. } => Err(error),
            Applied::Done(_) if team.members.len() > 1 => Progress::done(""),
            Applied::Done(_) => Progress::done("it has one member now, and commits wait for nobody"),
        }
    })
}
