//! Changing an instance: size, parameters, labels, protection.
//!
//! The updating transaction has stored the new spec and reserved the larger of old and new. A change that needs a
//! restart waits for one unless the user asked for it at once; if the server does not come up with it, the old settings
//! are restored, with another restart.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use windlass_core::{
    Error,
    instance::{InstanceSpec, Power},
    operation::OperationKind,
};
use windlass_db::{events::NewEvent, instances};
use windlass_proto::agent::v1 as pb;

use super::{
    Outcome, Progress, Saga, Step, StepContext, StepFuture,
    change::{self, Reached, Restart, Words},
    members, observe, replication,
};

const WORDS: Words = Words {
    done: "instance.updated",
    said: "the instance was changed",
    failed: "instance.update_failed",
    cancelled: "instance.update_cancelled",
};

/// Changes an instance.
#[derive(Debug)]
pub struct InstanceUpdate;

/// State of [`InstanceUpdate`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Data {
    /// The change.
    pub change: change::Data,
    /// What it reaches.
    pub reach: Reach,
    /// The labels before.
    pub labels_before: BTreeMap<String, String>,
    /// Whether parameters that need a restart get one.
    pub restart: RestartPolicy,
    /// Whether the restart was asked of the host.
    pub restarted: bool,
}

/// How far an update reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reach {
    /// Only the record: the members need not know.
    Record,
    /// The members too.
    Members,
}

/// When a parameter that needs a restart takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// With the next restart, whoever asks for it.
    Wait,
    /// At once, by a restart if it needs one.
    IfNeeded,
}

impl Saga for InstanceUpdate {
    const KIND: OperationKind = OperationKind::InstanceUpdate;
    const VERSION: i32 = 1;
    type Data = Data;

    fn steps() -> Vec<Step<Self>> {
        vec![
            Step::undoable("apply", "Applying the new settings", apply, take_back),
            Step::harmless("restart", "Restarting where needed", "taking the settings back restarts again", restart),
            Step::undoable("policy", "Telling the state machine of replication", policy, take_policy_back),
        ]
    }

    fn finish<'a>(ctx: &'a mut StepContext, data: &'a Data, outcome: &'a Outcome) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            if *outcome != Outcome::Succeeded {
                instances::instance_set_labels_tx(ctx.tx(), data.change.instance, &data.labels_before).await?;
            }
            match data.reach {
                Reach::Members => change::finish(ctx, &data.change, outcome, &WORDS).await,
                // Nothing moved, so the lifecycle stays; only a cancel can keep the record from being kept.
                Reach::Record => {
                    let target = ctx.target().to_owned();
                    let event = match outcome {
                        Outcome::Succeeded => NewEvent::info(WORDS.done, target, WORDS.said),
                        Outcome::Failed(error) => NewEvent::error(WORDS.failed, target, format!("it failed: {error}")),
                        Outcome::Cancelled => NewEvent::info(WORDS.cancelled, target, "it was taken back"),
                    };
                    ctx.event(event).await
                }
            }
        })
    }
}

fn apply<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        if data.reach == Reach::Record {
            return Progress::done("nothing for the hosts to do");
        }
        match change::apply(ctx, "apply", &data.change).await? {
            Reached::NotYet(progress) => Ok(progress),
            Reached::There(facts) => match &waiting(facts.iter())[..] {
                [] => Progress::done("in force"),
                some => Progress::done(format!("waits for a restart: {}", some.join(", "))),
            },
        }
    })
}

/// Parameters that wait for a restart of some member.
fn waiting<'a>(facts: impl Iterator<Item = &'a pb::MemberFacts>) -> Vec<String> {
    let names: BTreeSet<_> = facts.flat_map(|facts| facts.pending_restart.iter().cloned()).collect();
    names.into_iter().collect()
}

fn restart<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        if data.reach == Reach::Record {
            return Progress::done("not needed");
        }
        let members::Team { instance, members } = members::load(ctx, data.change.instance).await?;
        let facts: Vec<_> = members.iter().map(observe::stored_facts).collect();
        let waiting = waiting(facts.iter());
        if !data.restarted {
            if waiting.is_empty() || instance.spec.power == Power::Off {
                return Progress::done("not needed");
            }
            if data.restart == RestartPolicy::Wait {
                return Progress::done(format!("{} waits for a restart", waiting.join(", ")));
            }
            let spec = InstanceSpec { restarts: instance.spec.restarts + 1, ..instance.spec.clone() };
            instances::instance_set_spec_tx(ctx.tx(), instance.id, &spec).await?;
            data.restarted = true;
        }
        match change::apply(ctx, "restart", &data.change).await? {
            Reached::NotYet(progress) => Ok(progress),
            Reached::There(_) => Progress::done("restarted; everything is in force"),
        }
    })
}

/// What is promised of commits and when things are decided, and, after a restart, that somebody leads.
fn policy<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        let id = data.change.instance;
        let instance = members::lock(ctx.tx(), id).await?;
        let Some(cluster) = replication::lock(ctx, id).await? else { return Progress::done("one member") };
        let next = cluster.with_policy(instance.spec.replication.clone());
        replication::save(ctx, id, &cluster, &next).await?;
        if instance.spec.power == Power::Off || data.reach == Reach::Record {
            return Progress::done("it knows");
        }
        replication::until_open(ctx, id, &mut data.change.until).await
    })
}

fn take_policy_back<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        let id = data.change.instance;
        if let Some(cluster) = replication::lock(ctx, id).await? {
            let next = cluster.with_policy(data.change.before.replication.clone());
            replication::save(ctx, id, &cluster, &next).await?;
        }
        Progress::done("as before")
    })
}

fn take_back<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        if data.reach == Reach::Record {
            let id = data.change.instance;
            let instance = members::lock(ctx.tx(), id).await?;
            if instance.spec != data.change.before {
                instances::instance_set_spec_tx(ctx.tx(), id, &data.change.before).await?;
            }
            return Progress::done("as before");
        }
        let restart = if data.restarted { Restart::Again } else { Restart::No };
        change::take_back(ctx, &mut data.change, restart).await
    })
}
