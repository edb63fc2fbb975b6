//! Every service of the API, answered by closures. What no closure answers is unimplemented.

use std::{
    any::Any,
    collections::HashMap,
    fmt::Debug,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};
use tonic_types::{ErrorDetails, StatusExt as _};
use windlass_proto::api::v1::{
    self as pb, api_key_service_server as keys, event_service_server as events, host_service_server as hosts,
    instance_service_server as instances, object_service_server as objects, operation_service_server as operations,
    project_service_server as projects,
};

type Handler = Box<dyn FnMut(&dyn Any) -> Result<Box<dyn Any>, Status> + Send>;

/// The fake control plane.
#[derive(Default)]
pub(crate) struct Fake {
    handlers: Mutex<HashMap<&'static str, Handler>>,
    calls: Mutex<Vec<(&'static str, Box<dyn Any + Send>)>>,
}

/// A refusal as the API words it.
pub(crate) fn refusal(code: tonic::Code, reason: &str, message: &str, metadata: &[(&str, &str)]) -> Status {
    let metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let details = ErrorDetails::with_error_info(reason, "windlass", metadata.collect::<HashMap<_, _>>());
    Status::with_error_details(code, message, details)
}

impl Fake {
    /// Answers a method. The closure may keep state of its own.
    pub(crate) fn on<Req: 'static, Resp: 'static>(
        &self,
        method: &'static str,
        mut answer: impl FnMut(&Req) -> Result<Resp, Status> + Send + 'static,
    ) {
        let handler: Handler = Box::new(move |request| {
            let request = request.downcast_ref().expect("the request type of the method");
            answer(request).map(|response| Box::new(response) as Box<dyn Any>)
        });
        self.handlers.lock().expect("not poisoned").insert(method, handler);
    }

    /// The requests that a method got, in order.
    pub(crate) fn requests<Req: Clone + 'static>(&self, method: &str) -> Vec<Req> {
        let calls = self.calls.lock().expect("not poisoned");
        calls.iter().filter(|(name, _)| *name == method).filter_map(|(_, r)| r.downcast_ref::<Req>().cloned()).collect()
    }

    fn answer<Req, Resp>(&self, method: &'static str, request: Request<Req>) -> Result<Response<Resp>, Status>
    where
        Req: Clone + Debug + Send + 'static,
        Resp: 'static,
    {
        let bearer = request.metadata().get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        if bearer != format!("Bearer {}", crate::bench::KEY) {
            return Err(refusal(tonic::Code::Unauthenticated, "KEY_INVALID", "the key is unknown", &[]));
        }
        let request = request.into_inner();
        self.calls.lock().expect("not poisoned").push((method, Box::new(request.clone())));
        let mut handlers = self.handlers.lock().expect("not poisoned");
        let handler =
            handlers.get_mut(method).ok_or_else(|| Status::unimplemented(format!("no answer to {method}")))?;
        let response = handler(&request)?;
        Ok(Response::new(*response.downcast().expect("the response type of the method")))
    }

    /// Serves on a free port until the test ends.
    pub(crate) async fn serve(self: &Arc<Self>) -> SocketAddr {
        let (listener, address) = listen().await;
        tokio::spawn(self.router(Server::builder()).serve_with_incoming(TcpListenerStream::new(listener)));
        address
    }

    /// Serves with TLS on a free port until the test ends.
    pub(crate) async fn serve_tls(self: &Arc<Self>, identity: tonic::transport::Identity) -> SocketAddr {
        let (listener, address) = listen().await;
        let tls = tonic::transport::ServerTlsConfig::new().identity(identity);
        let server = Server::builder().tls_config(tls).expect("TLS configuration");
        tokio::spawn(self.router(server).serve_with_incoming(TcpListenerStream::new(listener)));
        address
    }

    fn router(self: &Arc<Self>, mut server: Server) -> tonic::transport::server::Router {
        let wire = || Wire(self.clone());
        server
            .add_service(projects::ProjectServiceServer::new(wire()))
            .add_service(instances::InstanceServiceServer::new(wire()))
            .add_service(objects::ObjectServiceServer::new(wire()))
            .add_service(operations::OperationServiceServer::new(wire()))
            .add_service(hosts::HostServiceServer::new(wire()))
            .add_service(keys::ApiKeyServiceServer::new(wire()))
            .add_service(events::EventServiceServer::new(wire()))
    }
}

async fn listen() -> (tokio::net::TcpListener, SocketAddr) {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("free port");
    let address = listener.local_addr().expect("address");
    (listener, address)
}

struct Wire(Arc<Fake>);

macro_rules! service {
    ($service:path { $($method:ident: $request:ident => $response:ident),+ $(,)? }) => {
        #[tonic::async_trait]
        impl $service for Wire {$(
            async fn $method(&self, request: Request<pb::$request>) -> Result<Response<pb::$response>, Status> {
                self.0.answer(stringify!($method), request)
            }
        )+}
    };
}

service!(projects::ProjectService {
    create_project: CreateProjectRequest => Project,
    get_project: GetProjectRequest => Project,
    list_projects: ListProjectsRequest => ListProjectsResponse,
    update_project: UpdateProjectRequest => Project,
    delete_project: DeleteProjectRequest => DeleteProjectResponse,
});
service!(instances::InstanceService {
    create_instance: CreateInstanceRequest => Operation,
    get_instance: GetInstanceRequest => Instance,
    list_instances: ListInstancesRequest => ListInstancesResponse,
    update_instance: UpdateInstanceRequest => Operation,
    delete_instance: DeleteInstanceRequest => Operation,
    undelete_instance: UndeleteInstanceRequest => Operation,
    start_instance: InstanceVerbRequest => Operation,
    stop_instance: InstanceVerbRequest => Operation,
    restart_instance: InstanceVerbRequest => Operation,
    switchover_instance: SwitchoverInstanceRequest => Operation,
    failover_instance: FailoverInstanceRequest => Operation,
    add_replica: AddReplicaRequest => Operation,
    remove_replica: RemoveReplicaRequest => Operation,
    explain_instance: ExplainInstanceRequest => ExplainInstanceResponse,
    get_connection: GetConnectionRequest => Connection,
    list_parameters: ListParametersRequest => ListParametersResponse,
    list_engine_versions: ListEngineVersionsRequest => ListEngineVersionsResponse,
});
service!(objects::ObjectService {
    create_object: CreateObjectRequest => Operation,
    list_objects: ListObjectsRequest => ListObjectsResponse,
    drop_object: DropObjectRequest => Operation,
});
service!(operations::OperationService {
    get_operation: GetOperationRequest => Operation,
    list_operations: ListOperationsRequest => ListOperationsResponse,
    wait_operation: WaitOperationRequest => Operation,
    cancel_operation: CancelOperationRequest => Operation,
});
service!(hosts::HostService {
    get_host: GetHostRequest => Host,
    list_hosts: ListHostsRequest => ListHostsResponse,
    update_host: UpdateHostRequest => Host,
    cordon_host: HostVerbRequest => Host,
    uncordon_host: HostVerbRequest => Host,
    drain_host: HostVerbRequest => Operation,
    revoke_host: HostVerbRequest => Host,
    create_join_token: CreateJoinTokenRequest => JoinToken,
    list_join_tokens: ListJoinTokensRequest => ListJoinTokensResponse,
    revoke_join_token: RevokeJoinTokenRequest => JoinToken,
});
service!(keys::ApiKeyService {
    create_api_key: CreateApiKeyRequest => CreateApiKeyResponse,
    list_api_keys: ListApiKeysRequest => ListApiKeysResponse,
    revoke_api_key: RevokeApiKeyRequest => ApiKey,
    who_am_i: WhoAmIRequest => ApiKey,
});
service!(events::EventService {
    list_events: ListEventsRequest => ListEventsResponse,
});
