//! `InstanceService`.

use tonic::{Request, Response, Status};
use windlass_core::member::MemberRole;
use windlass_db::instances::InstanceFilter;
use windlass_logic::ha::{Loss, Patience};
use windlass_proto::api::v1::{self as pb, instance_service_server::InstanceService};

use super::{Api, convert::instances as convert, filter::Filter, page::Page, projects::parent};
use crate::{
    app::{
        Caller,
        instances::{self, Listed, NewReplica, Via, Wanted},
    },
    sagas::{instance_delete::Disposal, instance_update::RestartPolicy},
};

#[tonic::async_trait]
impl InstanceService for Api {
    async fn create_instance(
        &self,
        request: Request<pb::CreateInstanceRequest>,
    ) -> Result<Response<pb::Operation>, Status> {
        self.operate(request, |ctx, tx, caller, message| {
            Box::pin(async move { instances::create(ctx, tx, caller, convert::create(message)?).await })
        })
        .await
    }

    async fn get_instance(&self, request: Request<pb::GetInstanceRequest>) -> Result<Response<pb::Instance>, Status> {
        self.read(request, async |ctx, caller: &Caller, message| {
            instances::get(ctx, caller, &convert::name("name", &message.name)?).await.map(convert::instance)
        })
        .await
    }

    async fn list_instances(
        &self,
        request: Request<pb::ListInstancesRequest>,
    ) -> Result<Response<pb::ListInstancesResponse>, Status> {
        self.read(request, async |ctx, caller: &Caller, message| {
            let project = parent(&message.parent)?;
            let filter = Filter::parse(&message.filter, &["state", "engine"])?;
            let list = format!("instances?{}&{}&{}", message.parent, message.filter, message.show_deleted);
            let page = Page::read(list, message.page_size, &message.page_token)?;
            let filter = InstanceFilter {
                project: None,
                lifecycle: filter.word("state")?,
                engine: filter.word("engine")?,
                labels: filter.labels,
                show_deleted: message.show_deleted,
            };
            let mut rows =
                instances::list(ctx, caller, project.as_deref(), filter, page.after_as()?, page.limit()).await?;
            let next_page_token = page.cut(&mut rows, |view| view.row.id.to_string());
            let instances = rows.into_iter().map(convert::instance).collect();
            Ok(pb::ListInstancesResponse { instances, next_page_token })
        })
        .await
    }

    async fn update_instance(
        &self,
        request: Request<pb::UpdateInstanceRequest>,
    ) -> Result<Response<pb::Operation>, Status> {
        self.operate(request, |_, tx, caller, message| {
            Box::pin(async move {
                let given = message.instance.unwrap_or_default();
                let name = convert::name("instance.name", &given.name)?;
                let update = convert::update(&given, message.update_mask)?;
                let restart = if message.restart_if_needed { RestartPolicy::IfNeeded } else { RestartPolicy::Wait };
                instances::update(tx, caller, &name, &given.etag, update, restart).await
            })
        })
        .await
    }

    async fn delete_instance(
        &self,
        request: Request<pb::DeleteInstanceRequest>,
    ) -> Result<Response<pb::Operation>, Status> {
        self.operate(request, |ctx, tx, caller, message| {
            Box::pin(async move {
                let name = convert::name("name", &message.name)?;
                let disposal = if message.purge { Disposal::Purge } else { Disposal::Retain };
                instances::delete(ctx, tx, caller, &name, &message.etag, disposal).await
            })
        })
        .await
    }

    async fn undelete_instance(
        &self,
        request: Request<pb::UndeleteInstanceRequest>,
    ) -> Result<Response<pb::Operation>, Status> {
        self.operate(request, |_, tx, caller, message| {
            Box::pin(async move { instances::undelete(tx, caller, &convert::name("name", &message.name)?).await })
        })
        .await
    }

    async fn start_instance(
        &self,
        request: Request<pb::InstanceVerbRequest>,
    ) -> Result<Response<pb::Operation>, Status> {
        self.operate(request, |_, tx, caller, message| {
            Box::pin(async move {
                instances::start(tx, caller, &convert::name("name", &message.name)?, &message.etag).await
            })
        })
        .await
    }

    async fn stop_instance(
        &self,
        request: Request<pb::InstanceVerbRequest>,
    ) -> Result<Response<pb::Operation>, Status> {
        self.operate(request, |_, tx, caller, message| {
            Box::pin(
                async move { instances::stop(tx, caller, &convert::name("name", &message.name)?, &message.etag).await },
            )
        })
        .await
    }

    async fn restart_instance(
        &self,
        request: Request<pb::InstanceVerbRequest>,
    ) -> Result<Response<pb::Operation>, Status> {
        self.operate(request, |_, tx, caller, message| {
            Box::pin(async move {
                instances::restart(tx, caller, &convert::name("name", &message.name)?, &message.etag).await
            })
        })
        .await
    }

    async fn switchover_instance(
        &self,
        request: Request<pb::SwitchoverInstanceRequest>,
    ) -> Result<Response<pb::Operation>, Status> {
        self.operate(request, |_, tx, caller, message| {
            Box::pin(async move {
                let name = convert::name("name", &message.name)?;
                let patience = if message.end_transactions { Patience::EndTransactions } else { Patience::GiveUp };
                instances::switchover(tx, caller, &name, &message.etag, &message.to, patience).await
            })
        })
        .await
    }

    async fn failover_instance(
        &self,
        request: Request<pb::FailoverInstanceRequest>,
    ) -> Result<Response<pb::Operation>, Status> {
        self.operate(request, |_, tx, caller, message| {
            Box::pin(async move {
                let name = convert::name("name", &message.name)?;
                let loss = if message.allow_data_loss { Loss::Allowed } else { Loss::Forbidden };
                instances::failover(tx, caller, &name, &message.etag, &message.to, loss).await
            })
        })
        .await
    }

    async fn add_replica(&self, request: Request<pb::AddReplicaRequest>) -> Result<Response<pb::Operation>, Status> {
        self.operate(request, |_, tx, caller, message| {
            Box::pin(async move {
                let name = convert::name("name", &message.name)?;
                let replica = NewReplica { asynchronous: message.asynchronous, host: message.host };
                instances::add_replica(tx, caller, &name, &message.etag, &replica).await
            })
        })
        .await
    }

    async fn remove_replica(
        &self,
        request: Request<pb::RemoveReplicaRequest>,
    ) -> Result<Response<pb::Operation>, Status> {
        self.operate(request, |_, tx, caller, message| {
            Box::pin(async move {
                let name = convert::name("name", &message.name)?;
                instances::remove_replica(tx, caller, &name, &message.etag, &message.member).await
            })
        })
        .await
    }

    async fn explain_instance(
        &self,
        request: Request<pb::ExplainInstanceRequest>,
    ) -> Result<Response<pb::ExplainInstanceResponse>, Status> {
        self.read(request, async |ctx, caller: &Caller, message| {
            let name = convert::name("name", &message.name)?;
            instances::explain(ctx, caller, &name).await.map(convert::explanation)
        })
        .await
    }

    async fn get_connection(
        &self,
        request: Request<pb::GetConnectionRequest>,
    ) -> Result<Response<pb::Connection>, Status> {
        self.read(request, async |ctx, caller: &Caller, message| {
            let name = convert::name("name", &message.name)?;
            let wanted = Wanted {
                user: message.user,
                database: message.database,
                via: if message.direct { Via::Direct } else { Via::Proxy },
                role: if message.read_only { MemberRole::Replica } else { MemberRole::Primary },
            };
            let found = instances::connection(ctx, caller, &name, &wanted).await?;
            Ok(convert::connection(&found, ctx.authority.ca_pem()))
        })
        .await
    }

    async fn list_parameters(
        &self,
        request: Request<pb::ListParametersRequest>,
    ) -> Result<Response<pb::ListParametersResponse>, Status> {
        self.read(request, async |ctx, caller: &Caller, message| {
            let name = convert::name("name", &message.name)?;
            let listed = if message.user_only { Listed::UserOnly } else { Listed::All };
            let found = instances::parameters(ctx, caller, &name, listed).await?;
            Ok(pb::ListParametersResponse { parameters: found.into_iter().map(convert::parameter).collect() })
        })
        .await
    }

    async fn list_engine_versions(
        &self,
        request: Request<pb::ListEngineVersionsRequest>,
    ) -> Result<Response<pb::ListEngineVersionsResponse>, Status> {
        self.read(request, async |ctx, _: &Caller, _| {
            let found = instances::engine_versions(ctx).await?;
            Ok(pb::ListEngineVersionsResponse { versions: found.into_iter().map(convert::version).collect() })
        })
        .await
    }
}
