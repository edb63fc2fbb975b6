//! What to try next after an error: one place that knows the way out of each reason.

use windlass_core::{Reason, error::nearest};
use windlass_proto::api::v1 as pb;

use crate::{
    api::PAGE,
    context::Context,
    failure::{Failure, Refusal},
    names,
};

/// A suggestion for the user, if there is a good one. May ask the API for names; its own errors are dropped.
pub(crate) async fn hint(context: &Context, failure: &Failure) -> Option<String> {
    match failure {
        Failure::Unreachable { .. } => {
            Some("check the endpoint and that the control plane runs; `windlass doctor` looks at each part".to_owned())
        }
        Failure::TimedOut { operation, .. } | Failure::Interrupted { operation } => {
            Some(format!("windlass operation wait {}", names::short(operation)))
        }
        Failure::Refused(refusal) if refusal.reason == Reason::NotFound.as_str() => similar(context, refusal).await,
        Failure::Refused(refusal) => known(refusal, context.subject()),
        Failure::Operation { target, refusal, .. } => known(refusal, Some(names::short(target))),
        Failure::Usage(_) | Failure::Local(_) | Failure::NoKey | Failure::NotConfirmed | Failure::Unhealthy(_) => None,
    }
}

/// The way out of each reason that has one. `{operation}` and `{instance}` are filled in.
const WAYS_OUT: &[(Reason, &str)] = &[
    (Reason::InstanceBusy, "windlass operation wait {operation}"),
    (Reason::KeyInvalid, "set WINDLASS_TOKEN to a valid key; an administrator makes one with `windlass key create`"),
    (Reason::PermissionMissing, "`windlass whoami` shows what this key may do"),
    (Reason::EtagMismatch, "somebody else changed it; look at it again and retry"),
    (Reason::Conflict, "somebody else changed it; look at it again and retry"),
    (Reason::DeletionProtected, "windlass instance update {instance} --deletion-protection false"),
    (Reason::QuotaExceeded, "`windlass project quota` shows what is left; an administrator can raise it there"),
    (Reason::NoHostFits, "`windlass host list` shows what the hosts have left"),
    (Reason::EngineUnavailable, "`windlass engine list` shows what the hosts have"),
    (Reason::ParameterInvalid, "windlass param list {instance} --all"),
    (Reason::NotEmpty, "delete what is in it first"),
    (Reason::RequestIdReused, "use another --idempotency-key, or none"),
    (Reason::StateForbids, "windlass instance get {instance}"),
    (Reason::StartFailed, "windlass instance events {instance}"),
    (Reason::InitFailed, "windlass instance events {instance}"),
    (Reason::DiskFull, "`windlass host list` shows the hosts; give another size or free some disk"),
    (Reason::CommandExpired, "`windlass host list` shows whether the host's agent answers"),
    (Reason::ServerCertificateInvalid, "use the CA of this installation and a host name that its certificate has"),
    (Reason::Unavailable, "try again in a moment; `windlass doctor` looks at each part"),
    (Reason::RateLimited, "try again in a moment"),
    (Reason::Internal, "the control plane's log has the details"),
];

/// What is always true of a reason. One of a newer control plane has no suggestion here.
fn known(refusal: &Refusal, instance: Option<&str>) -> Option<String> {
    let way = WAYS_OUT.iter().find(|(reason, _)| reason.as_str() == refusal.reason)?.1;
    let about = |key: &str| refusal.metadata.get(key).map(|text| names::short(text));
    let instance = instance.or_else(|| about("instance")).unwrap_or("INSTANCE");
    Some(way.replace("{operation}", about("operation").unwrap_or("OPERATION")).replace("{instance}", instance))
}

/// The existing name nearest to one that does not exist.
async fn similar(context: &Context, refusal: &Refusal) -> Option<String> {
    let missing = names::short(refusal.metadata.get("resource_name")?);
    let kind = refusal.metadata.get("resource_type")?.as_str();
    let known = match kind {
        "instance" => instances(context, refusal).await,
        "project" => projects(context).await,
        "host" => hosts(context).await,
        _ => None,
    }?;
    match nearest(missing, known.iter().map(String::as_str)) {
        Some(near) => Some(format!("did you mean {near}?")),
        None if known.is_empty() => Some(format!("there is no {kind} at all")),
        None => Some(format!("`windlass {kind} list` shows what there is")),
    }
}

async fn instances(context: &Context, refusal: &Refusal) -> Option<Vec<String>> {
    let full = refusal.metadata.get("resource_name")?;
    let project = match names::project_of(full) {
        "" => context.project().await.ok()?,
        own => own.to_owned(),
    };
    let request = pb::ListInstancesRequest { parent: names::project(&project), page_size: PAGE, ..Default::default() };
    let answer = context.api().await.ok()?.instances().list_instances(request).await.ok()?.into_inner();
    Some(answer.instances.iter().map(|instance| names::short(&instance.name).to_owned()).collect())
}

async fn projects(context: &Context) -> Option<Vec<String>> {
    let request = pb::ListProjectsRequest { page_size: PAGE, ..Default::default() };
    let answer = context.api().await.ok()?.projects().list_projects(request).await.ok()?.into_inner();
    Some(answer.projects.iter().map(|project| names::short(&project.name).to_owned()).collect())
}

async fn hosts(context: &Context) -> Option<Vec<String>> {
    let request = pb::ListHostsRequest { page_size: PAGE, ..Default::default() };
    let answer = context.api().await.ok()?.hosts().list_hosts(request).await.ok()?.into_inner();
    Some(answer.hosts.iter().map(|host| names::short(&host.name).to_owned()).collect())
}
