//! All services on one router.

use std::sync::Arc;

use tonic::{
    Request, Response, Status,
    service::{Routes, RoutesBuilder},
};
use windlass_core::Error;
use windlass_proto::{
    DESCRIPTORS,
    api::v1::{
        api_key_service_server::ApiKeyServiceServer, event_service_server::EventServiceServer,
        host_service_server::HostServiceServer, instance_service_server::InstanceServiceServer,
        object_service_server::ObjectServiceServer, operation_service_server::OperationServiceServer,
        project_service_server::ProjectServiceServer, proxy_service_server::ProxyServiceServer,
    },
};

use super::{auth::Authenticator, change::caller, error::status};
use crate::app::{Caller, Context};

/// Largest message taken, in bytes.
pub const MESSAGE_MAX: usize = 4 << 20;

/// Implements every service of the public API.
#[derive(Debug, Clone)]
pub struct Api {
    pub(super) ctx: Arc<Context>,
    pub(super) authenticator: Arc<Authenticator>,
}

impl Api {
    /// The API over shared parts.
    pub fn new(ctx: Arc<Context>, authenticator: Arc<Authenticator>) -> Self {
        Self { ctx, authenticator }
    }

    /// Routes of the public API and of reflection.
    ///
    /// # Errors
    /// `INTERNAL` when the descriptors cannot be read.
    pub fn routes(&self) -> Result<RoutesBuilder, Error> {
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .map_err(|error| Error::internal("the API's descriptors cannot be read").with_source(error))?;
        let mut routes = Routes::builder();
        routes
            .add_service(reflection)
            .add_service(ProjectServiceServer::new(self.clone()).max_decoding_message_size(MESSAGE_MAX))
            .add_service(InstanceServiceServer::new(self.clone()).max_decoding_message_size(MESSAGE_MAX))
            .add_service(ObjectServiceServer::new(self.clone()).max_decoding_message_size(MESSAGE_MAX))
            .add_service(OperationServiceServer::new(self.clone()).max_decoding_message_size(MESSAGE_MAX))
            .add_service(HostServiceServer::new(self.clone()).max_decoding_message_size(MESSAGE_MAX))
            .add_service(ProxyServiceServer::new(self.clone()).max_decoding_message_size(MESSAGE_MAX))
            .add_service(EventServiceServer::new(self.clone()).max_decoding_message_size(MESSAGE_MAX))
            .add_service(ApiKeyServiceServer::new(self.clone()).max_decoding_message_size(MESSAGE_MAX));
        Ok(routes)
    }

    /// Runs a read.
    pub(super) async fn read<M, R>(
        &self,
        request: Request<M>,
        answer: impl AsyncFnOnce(&Context, &Caller, M) -> Result<R, Error>,
    ) -> Result<Response<R>, Status> {
        let run = async {
            let caller = caller(&request)?;
            answer(&self.ctx, &caller, request.into_inner()).await
        };
        run.await.map(Response::new).map_err(|error| status(&error))
    }
}
