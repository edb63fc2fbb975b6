//! The gRPC API as a test uses it: one channel, a bearer key, and the few calls that every test makes.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};
use tonic_types::StatusExt;
use uuid::Uuid;
use windlass_proto::api::v1::api_key_service_client::ApiKeyServiceClient;
use windlass_proto::api::v1::event_service_client::EventServiceClient;
use windlass_proto::api::v1::host_service_client::HostServiceClient;
use windlass_proto::api::v1::instance_service_client::InstanceServiceClient;
use windlass_proto::api::v1::object_service_client::ObjectServiceClient;
use windlass_proto::api::v1::operation_service_client::OperationServiceClient;
use windlass_proto::api::v1::project_service_client::ProjectServiceClient;
use windlass_proto::api::v1::{
    CreateInstanceRequest, CreateProjectRequest, DeleteInstanceRequest, GetInstanceRequest, GetOperationRequest, Host,
    Instance, ListHostsRequest, Operation, Project, Resources, WaitOperationRequest, operation,
};

use crate::wait::wait_until;

/// How long an operation may take in a test.
pub const OPERATION_LIMIT: Duration = Duration::from_secs(90);

/// Puts the key into each call.
#[derive(Debug, Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

type Wire = InterceptedService<Channel, Bearer>;

/// A connection with a key.
#[derive(Debug, Clone)]
pub struct Api {
    channel: Channel,
    bearer: Bearer,
}

impl Api {
    /// Prepares a connection; it is made at the first call and again after each loss.
    ///
    /// # Errors
    /// Endpoint or certificate are malformed.
    pub fn new(endpoint: &str, ca_pem: &str, key: &str) -> Result<Self> {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca_pem)).domain_name("localhost");
        let channel = Endpoint::from_shared(endpoint.to_owned())?
            .tls_config(tls)?
            .connect_timeout(Duration::from_secs(5))
            .timeout(Duration::from_secs(70))
            .connect_lazy();
        let mut api = Self { channel, bearer: Bearer(None) };
        api = api.with_key(key)?;
        Ok(api)
    }

    /// The same connection with another key; an empty one sends none.
    ///
    /// # Errors
    /// The key cannot be a header.
    pub fn with_key(&self, key: &str) -> Result<Self> {
        let value = if key.is_empty() { None } else { Some(format!("Bearer {key}").parse()?) };
        Ok(Self { channel: self.channel.clone(), bearer: Bearer(value) })
    }

    fn wire(&self) -> Wire {
        InterceptedService::new(self.channel.clone(), self.bearer.clone())
    }

    /// Projects.
    pub fn projects(&self) -> ProjectServiceClient<Wire> {
        ProjectServiceClient::new(self.wire())
    }

    /// Instances.
    pub fn instances(&self) -> InstanceServiceClient<Wire> {
        InstanceServiceClient::new(self.wire())
    }

    /// Users, databases, extensions.
    pub fn objects(&self) -> ObjectServiceClient<Wire> {
        ObjectServiceClient::new(self.wire())
    }

    /// Operations.
    pub fn operations(&self) -> OperationServiceClient<Wire> {
        OperationServiceClient::new(self.wire())
    }

    /// Hosts and join tokens.
    pub fn hosts(&self) -> HostServiceClient<Wire> {
        HostServiceClient::new(self.wire())
    }

    /// API keys.
    pub fn keys(&self) -> ApiKeyServiceClient<Wire> {
        ApiKeyServiceClient::new(self.wire())
    }

    /// Events.
    pub fn events(&self) -> EventServiceClient<Wire> {
        EventServiceClient::new(self.wire())
    }

    /// Creates a project without labels and with the default quota.
    ///
    /// # Errors
    /// The call was refused.
    pub async fn create_project(&self, id: &str) -> Result<Project> {
        let request =
            CreateProjectRequest { project_id: id.to_owned(), request_id: request_id(), ..Default::default() };
        Ok(self.projects().create_project(request).await?.into_inner())
    }

    /// Asks for an instance of the smallest useful size.
    ///
    /// # Errors
    /// The call was refused.
    pub async fn create_instance(&self, project: &str, id: &str, engine: &str) -> Result<Operation, Status> {
        let request = create_request(project, id, engine);
        Ok(self.instances().create_instance(request).await?.into_inner())
    }

    /// Creates an instance and waits for it.
    ///
    /// # Errors
    /// It was refused or failed.
    pub async fn make_instance(&self, project: &str, id: &str, engine: &str) -> Result<Instance> {
        let operation = self.create_instance(project, id, engine).await?;
        self.succeeded(&operation).await?;
        self.instance(&instance_name(project, id)).await
    }

    /// Removes an instance and its data and waits for the end.
    ///
    /// # Errors
    /// It was refused or failed.
    pub async fn purge_instance(&self, name: &str) -> Result<()> {
        self.remove(DeleteInstanceRequest { name: name.to_owned(), purge: true, ..Default::default() }).await
    }

    /// Deletes an instance for now: its data stays for as long as its project keeps it.
    ///
    /// # Errors
    /// The call was refused, or the operation failed.
    pub async fn delete_instance(&self, name: &str) -> Result<()> {
        self.remove(DeleteInstanceRequest { name: name.to_owned(), ..Default::default() }).await
    }

    async fn remove(&self, request: DeleteInstanceRequest) -> Result<()> {
        let request = DeleteInstanceRequest { request_id: request_id(), ..request };
        let operation = self.instances().delete_instance(request).await?.into_inner();
        self.succeeded(&operation).await
    }

    /// An instance as it is now.
    ///
    /// # Errors
    /// The call was refused.
    pub async fn instance(&self, name: &str) -> Result<Instance> {
        Ok(self.instances().get_instance(GetInstanceRequest { name: name.to_owned() }).await?.into_inner())
    }

    /// Waits until an instance is as it should be.
    ///
    /// # Errors
    /// It is not within the limit; the message has it as it was last.
    pub async fn instance_until(
        &self,
        name: &str,
        what: &str,
        limit: Duration,
        holds: impl Fn(&Instance) -> bool,
    ) -> Result<Instance> {
        wait_until(&format!("{name} {what}"), limit, async || {
            let instance = self.instance(name).await?;
            if holds(&instance) { Ok(instance) } else { bail!("{instance:?}") }
        })
        .await
    }

    /// Every host.
    ///
    /// # Errors
    /// The call was refused.
    pub async fn all_hosts(&self) -> Result<Vec<Host>> {
        let request = ListHostsRequest { page_size: 500, ..Default::default() };
        Ok(self.hosts().list_hosts(request).await?.into_inner().hosts)
    }

    /// Waits for the end of an operation, through restarts of the control plane, whatever the end is.
    ///
    /// # Errors
    /// It does not end within [`OPERATION_LIMIT`].
    pub async fn ended(&self, operation: &Operation) -> Result<Operation> {
        self.ended_within(OPERATION_LIMIT, operation).await
    }

    /// As [`Api::ended`], with another limit.
    ///
    /// # Errors
    /// It does not end within the limit.
    pub async fn ended_within(&self, limit: Duration, operation: &Operation) -> Result<Operation> {
        let name = operation.name.clone();
        wait_until(&format!("end of {name} ({})", operation.kind), limit, async || {
            let request = WaitOperationRequest {
                name: name.clone(),
                timeout: Some(windlass_proto_duration(5)),
                seen_revision: 0,
            };
            let now = self.operations().wait_operation(request).await?.into_inner();
            if now.done { Ok(now) } else { bail!("{:?} {:?}", now.state(), now.steps) }
        })
        .await
    }

    /// Waits for the end of an operation, which must be a success.
    ///
    /// # Errors
    /// It failed or does not end.
    pub async fn succeeded(&self, operation: &Operation) -> Result<()> {
        let end = self.ended(operation).await?;
        if end.state() == operation::State::Succeeded { Ok(()) } else { bail!("{} ended {end:?}", end.kind) }
    }

    /// Waits for the end of an operation, which must be a failure, and gives its reason and message.
    ///
    /// # Errors
    /// It succeeded or does not end.
    pub async fn failed(&self, operation: &Operation) -> Result<(String, String)> {
        let end = self.ended(operation).await?;
        let error = end.error.with_context(|| format!("{} ended {}", end.kind, end.state))?;
        Ok((error.reason, error.message))
    }

    /// An operation as it is now.
    ///
    /// # Errors
    /// The call was refused.
    pub async fn operation(&self, name: &str) -> Result<Operation> {
        Ok(self.operations().get_operation(GetOperationRequest { name: name.to_owned() }).await?.into_inner())
    }
}

/// Whole seconds as the wire has them.
pub fn windlass_proto_duration(seconds: i64) -> pbjson_types::Duration {
    pbjson_types::Duration { seconds, nanos: 0 }
}

/// A fresh request id.
pub fn request_id() -> String {
    Uuid::now_v7().to_string()
}

/// The full name of an instance.
pub fn instance_name(project: &str, id: &str) -> String {
    format!("projects/{project}/instances/{id}")
}

/// A request for an instance of a small size with a fresh request id.
pub fn create_request(project: &str, id: &str, engine: &str) -> CreateInstanceRequest {
    CreateInstanceRequest {
        parent: format!("projects/{project}"),
        instance_id: id.to_owned(),
        instance: Some(Instance {
            engine: engine.to_owned(),
            resources: Some(Resources { cpu_millis: 100, memory_bytes: 256 << 20, disk_bytes: 512 << 20 }),
            ..Default::default()
        }),
        request_id: request_id(),
        validate_only: false,
    }
}

/// The stable reason in a refused call; empty if it has none.
pub fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}
