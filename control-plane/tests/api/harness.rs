//! A control plane per test, with keys to call it.

use std::{collections::BTreeMap, net::SocketAddr};

use jiff::SignedDuration;
use prost::{
    Message,
    bytes::{Buf as _, BufMut as _},
};
use prost_types::FileDescriptorSet;
use secrecy::ExposeSecret as _;
use tempfile::TempDir;
use tonic::{
    Code, GrpcMethod, Request, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    metadata::MetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};
use tonic_types::StatusExt as _;
use windlass_control_plane::{
    app::keys::{self, KeyRequest},
    config::Config,
    plane::Plane,
};
use windlass_core::role::Role;
use windlass_db::testing::TestDb;
use windlass_kit::{
    failpoint::Failpoints,
    tls::{self, Trust},
};
use windlass_proto::api::v1 as pb;
use windlass_proto::api::v1::{
    api_key_service_client::ApiKeyServiceClient, event_service_client::EventServiceClient,
    host_service_client::HostServiceClient, project_service_client::ProjectServiceClient,
};

/// A running control plane.
pub(crate) struct Fixture {
    pub(crate) plane: Plane,
    pub(crate) test_db: TestDb,
    pub(crate) channel: Channel,
    _state: TempDir,
}

/// Puts a key on every call.
#[derive(Debug, Clone)]
pub(crate) struct Bearer(String);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if !self.0.is_empty() {
            let value = MetadataValue::try_from(format!("Bearer {}", self.0)).expect("a key is ASCII");
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

type Authorised = InterceptedService<Channel, Bearer>;

/// Somebody with a key.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    channel: Channel,
    bearer: Bearer,
}

impl Fixture {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let test_db = TestDb::create().await;
        let state = tempfile::tempdir().expect("temp dir");
        let mut config = Config {
            state_dir: state.path().to_owned(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            ..Config::default()
        };
        config.metadata.url = Some(test_db.url().into());
        change(&mut config);
        let plane = Plane::start(config, Failpoints::none()).await.expect("start");
        let channel = connect(&plane).await;
        Self { plane, test_db, channel, _state: state }
    }

    /// A key of this role for the installation or one project.
    pub(crate) async fn key(&self, role: Role, project: Option<&str>, ttl: Option<SignedDuration>) -> String {
        let request = KeyRequest { title: "test".to_owned(), role, project: project.map(str::to_owned), ttl };
        let mut tx = self.plane.db().begin().await.expect("begin");
        let (_, key) = keys::create_on_host(&mut tx, request).await.expect("key");
        tx.commit().await.expect("commit");
        key.text().expose_secret().to_owned()
    }

    pub(crate) async fn client(&self, role: Role, project: Option<&str>) -> Client {
        self.with_key(&self.key(role, project, None).await)
    }

    pub(crate) async fn admin(&self) -> Client {
        self.client(Role::Admin, None).await
    }

    pub(crate) fn with_key(&self, key: &str) -> Client {
        Client { channel: self.channel.clone(), bearer: Bearer(key.to_owned()) }
    }

    pub(crate) async fn stop(self) {
        drop(self.channel);
        self.plane.shutdown().await.expect("stops in order");
    }
}

pub(crate) async fn connect(plane: &Plane) -> Channel {
    let pem = std::fs::read_to_string(&plane.ca_file).expect("ca.pem");
    let trust = Trust::from_pem(&pem).expect("trust");
    tls::connect(&format!("https://localhost:{}", plane.address.port()), &trust, None).await.expect("connect")
}

impl Client {
    pub(crate) fn projects(&self) -> ProjectServiceClient<Authorised> {
        ProjectServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    pub(crate) fn hosts(&self) -> HostServiceClient<Authorised> {
        HostServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    pub(crate) fn keys(&self) -> ApiKeyServiceClient<Authorised> {
        ApiKeyServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    pub(crate) fn events(&self) -> EventServiceClient<Authorised> {
        EventServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    /// Makes a project.
    pub(crate) async fn project(&self, name: &str) -> pb::Project {
        let request = pb::CreateProjectRequest { project_id: name.to_owned(), ..Default::default() };
        self.projects().create_project(request).await.expect("project").into_inner()
    }

    /// Calls any method with any bytes.
    pub(crate) async fn raw(&self, path: &str, body: Vec<u8>) -> Result<Vec<u8>, Status> {
        let service = InterceptedService::new(self.channel.clone(), self.bearer.clone());
        let mut grpc = tonic::client::Grpc::new(service);
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let mut request = Request::new(body);
        request.extensions_mut().insert(GrpcMethod::new("raw", "raw"));
        let path = PathAndQuery::try_from(path).expect("path");
        grpc.unary(request, path, Bytes).await.map(tonic::Response::into_inner)
    }
}

/// A codec that leaves bytes alone.
#[derive(Debug, Clone, Default)]
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        Self
    }
    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;
    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item.as_slice());
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;
    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining()).to_vec()))
    }
}

/// Every method of the public API as an HTTP path, from the contracts.
pub(crate) fn methods() -> Vec<String> {
    let set = FileDescriptorSet::decode(windlass_proto::DESCRIPTORS).expect("descriptors");
    set.file
        .iter()
        .filter(|file| file.package() == "windlass.api.v1")
        .flat_map(|file| &file.service)
        .flat_map(|service| {
            service.method.iter().map(move |m| format!("/windlass.api.v1.{}/{}", service.name(), m.name()))
        })
        .collect()
}

/// The stable reason of a failed call.
pub(crate) fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, "windlass");
    info.reason.clone()
}

/// Asserts a refusal of this code and reason.
pub(crate) fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, expected: &str) -> Status {
    let status = answer.expect_err(expected);
    assert_eq!((status.code(), reason(&status).as_str()), (code, expected), "{status:?}");
    status
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}
