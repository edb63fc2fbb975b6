//! Creating or dropping a user, a database or an extension inside an instance.
//!
//! The engine does it whole or not at all, so there is nothing to unwind. What could not be created stays as FAILED, so
//! that its name tells what happened; creating it again or dropping it is allowed. What could not be dropped is READY.

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use windlass_core::{
    Error,
    id::InstanceId,
    object::{ObjectKind, ObjectState},
    operation::OperationKind,
};
use windlass_db::{
    events::NewEvent,
    objects::{ObjectKey, object_by_key_tx, object_delete_tx, object_set_state_tx},
};
use windlass_proto::agent::v1 as pb;

use super::{CommandOutcome, Outcome, Progress, Saga, Step, StepContext, StepFuture, goal::object_order, members};

/// Creates or drops an object.
#[derive(Debug)]
pub struct ObjectApply;

/// State of [`ObjectApply`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Data {
    /// The instance.
    pub instance: InstanceId,
    /// The object.
    pub key: ObjectKey,
    /// What to do with it.
    pub wish: Wish,
}

/// What to do with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wish {
    /// Make it exist.
    Create,
    /// Make it not exist.
    Drop,
}

impl Saga for ObjectApply {
    const KIND: OperationKind = OperationKind::ObjectApply;
    const VERSION: i32 = 1;
    type Data = Data;

    fn steps() -> Vec<Step<Self>> {
        vec![Step::harmless("apply", "Asking the database", "the engine does it whole or not at all", apply)]
    }

    fn finish<'a>(ctx: &'a mut StepContext, data: &'a Data, outcome: &'a Outcome) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let target = ctx.target().to_owned();
            let kind = data.key.kind;
            let event = match (outcome, data.wish) {
                (Outcome::Succeeded, Wish::Create) => {
                    object_set_state_tx(ctx.tx(), data.instance, &data.key, ObjectState::Ready).await?;
                    NewEvent::info(&format!("{kind}.created"), target, format!("the {kind} was created"))
                }
                (Outcome::Succeeded, Wish::Drop) => {
                    object_delete_tx(ctx.tx(), data.instance, &data.key).await?;
                    NewEvent::info(&format!("{kind}.dropped"), target, format!("the {kind} was dropped"))
                }
                (Outcome::Failed(_) | Outcome::Cancelled, Wish::Create) => {
                    object_set_state_tx(ctx.tx(), data.instance, &data.key, ObjectState::Failed).await?;
                    NewEvent::warning(&format!("{kind}.create_failed"), target, why(outcome))
                }
                (Outcome::Failed(_) | Outcome::Cancelled, Wish::Drop) => {
                    object_set_state_tx(ctx.tx(), data.instance, &data.key, ObjectState::Ready).await?;
                    NewEvent::warning(&format!("{kind}.drop_failed"), target, why(outcome))
                }
            };
            ctx.event(event).await
        })
    }
}

fn why(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Failed(error) => error.to_string(),
        Outcome::Cancelled | Outcome::Succeeded => "it was cancelled".to_owned(),
    }
}

fn apply<'a>(ctx: &'a mut StepContext, data: &'a mut Data) -> StepFuture<'a> {
    Box::pin(async move {
        let team = members::load(ctx, data.instance).await?;
        let (instance, member) = (&team.instance, team.primary()?);
        let object = object_by_key_tx(ctx.tx(), data.instance, &data.key)
            .await?
            .ok_or_else(|| Error::not_found(word(data.key.kind), &data.key.name))?;
        let order = object_order(&object, data.wish == Wish::Drop);
        let body = pb::command::Body::ApplyObject(order);
        // By the member, so that another one that leads meanwhile is asked too; whoever does it twice does it once.
        match members::ask(ctx, &format!("object/{}", member.id), instance, member, body).await? {
            CommandOutcome::Pending if team.replicated() => {
                Ok(Progress::Later(members::LOOK_AGAIN, format!("waiting for host {}", member.host_name)))
            }
            CommandOutcome::Pending => Progress::wait(format!("waiting for host {}", member.host_name)),
            CommandOutcome::Succeeded(_) => Progress::done("done"),
            CommandOutcome::Failed(error) => Err(error),
        }
    })
}

const fn word(kind: ObjectKind) -> &'static str {
    kind.as_str()
}
