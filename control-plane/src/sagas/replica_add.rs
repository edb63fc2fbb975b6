//! Adding replicas to an instance that serves, the first ones too.
//!
//! The adding transaction has reserved quota, hosts and ports, stored the members and the new spec. The saga deploys
//! them, takes them into the cluster (founding it if the instance had one member), and ends when every synchronous one
//! acknowledges commits. Undone, the members leave the ack set first, then go with their data; a cluster that was founded
//! here stays, with the primary alone.

use std::collections::BTreeSet;

use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use windlass_core::{
    Error,
    id::{InstanceId, MemberId},
    instance::LifecycleEvent,
    operation::OperationKind,
    replication::Replication,
};
use windlass_db::{events::NewEvent, instances, members::MemberRow, reservations};

use super::{
    Outcome, Progress, Saga, Step, StepContext, StepFuture,
    goal::DataSource,
    members::{self, Applied, Team},
    observe,
    replication::{self, Load},
};

/// Adds replicas.
#[derive(Debug)]
pub struct ReplicaAdd;

/// State of [`ReplicaAdd`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Data {
    /// The instance.
    pub instance: InstanceId,
    /// The new members.
    pub members: BTreeSet<MemberId>,
    /// What was wanted before.
    pub before: Replication,
    /// Until when it may be waited for.
    pub until: Option<Timestamp>,
}

impl Data {
    fn fresh(&self, team: &Team) -> Vec<MemberRow> {
        team.members.iter().filter(|member| self.members.contains(&member.id)).cloned().collect()
    }
}

impl Saga for ReplicaAdd {
    const KIND: OperationKind = OperationKind::ReplicaAdd;
    const VERSION: i32 = 1;
    type Data = Data;

    fn steps() -> Vec<Step<Self>> {
        vec![
            Step::undoable("reserve", "Reserving quota, hosts and ports", reserve, release),
            Step::undoable("deploy", "Deploying the replicas", deploy, remove),
            Step::undoable("join", "Bringing the replicas into step", join, leave),
        ]
    }

    fn finish<'a>(ctx: &'a mut StepContext, data: &'a Data, outcome: &'a Outcome) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let target = ctx.target().to_owned();
            let event = match outcome {
                Outcome::Succeeded => {
                    let what = if data.members.len() == 1 { "a replica was added" } else { "replicas were added" };
                    NewEvent::info("replica.added", target, what)
                }
                Outcome::Failed(error) => NewEvent::error("replica.add_failed", target, format!("it failed: {error}")),
                Outcome::Cancelled => NewEvent::info("replica.add_cancelled", target, "it was cancelled"),
            };
            instances::instance_advance_tx(ctx.tx(), data.instance, LifecycleEvent::Served, None).await?;
            observe::refresh_tx(ctx.tx(), &[data.instance]).await?;
            ctx.event(event).await
        })
    }
}

/// The reservations were made with the operation; this tells what they are.
fn reserve<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        let team = members::load(ctx, data.instance).await?;
        Progress::done(members::places(&data.fresh(&team)))
    })
}

fn release<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        let team = members::load(ctx, data.instance).await?;
        for member in data.fresh(&team) {
            reservations::member_delete_tx(ctx.tx(), member.id).await?;
        }
        if team.instance.spec.replication != data.before {
            let spec = windlass_core::instance::InstanceSpec {
                replication: data.before.clone(),
                ..team.instance.spec.clone()
            };
            // The reconciler brings the others to it: nothing that they run changes but whose they are.
            instances::instance_set_spec_tx(ctx.tx(), data.instance, &spec).await?;
        }
        Progress::done("quota, hosts and ports are given back")
    })
}

/// Every member: a first replica makes the primary one of several, and all reach the new generation.
fn deploy<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        let team = members::load(ctx, data.instance).await?;
        let here = members::reachable(&team.members);
        match members::apply(ctx, "apply", &team, &here, DataSource::Existing).await? {
            Applied::Waiting(progress) => Ok(progress),
            Applied::Failed { error, .. } => Err(error),
            Applied::Done(_) => Progress::done(members::addresses(&data.fresh(&team))),
        }
    })
}

fn remove<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        let team = members::load(ctx, data.instance).await?;
        let fresh = data.fresh(&team);
        members::take_away_or_leave(ctx, &team.instance, &fresh, &members::remove_with_data()).await
    })
}

fn join<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        let team = members::load(ctx, data.instance).await?;
        let fresh = data.fresh(&team);
        match replication::lock(ctx, data.instance).await? {
            None => replication::found(ctx, &team).await?,
            Some(cluster) => {
                let mut next = cluster.with_policy(team.instance.spec.replication.clone());
                for row in &fresh {
                    next = next.add(row.id, replication::member(row))?;
                }
                replication::save(ctx, data.instance, &cluster, &next).await?;
            }
        }
        let team = Team { members: fresh, ..team };
        replication::until_acknowledged(ctx, &team, &mut data.until, Load::Full).await
    })
}

fn leave<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move { replication::expel(ctx, data.instance, &data.members, &data.before).await })
}
