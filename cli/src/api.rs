//! The API as the commands use it: one client per service, calls with bounded retries, whole lists.
//!
//! Invariant: a call is only repeated when the control plane was not reachable, with the same request and so the same
//! request id; the server makes repeats of a mutation have one effect.

use std::time::Duration;

use tonic::{
    Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};
use windlass_proto::api::v1 as pb;

use crate::failure::{Failure, unreached};

/// Waits between the tries of a call.
const RETRY_AFTER: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_millis(300), Duration::from_millis(900), Duration::from_millis(2700)];
/// Largest page that the API gives.
pub(crate) const PAGE: i32 = 500;
/// Pages after which a list is taken to be endless.
const MAX_PAGES: usize = 10_000;

pub(crate) type Wire = InterceptedService<Channel, Bearer>;

/// The connected API.
pub(crate) struct Api {
    wire: Wire,
}

/// Adds the key to each call.
#[derive(Clone)]
pub(crate) struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

macro_rules! clients {
    ($($(#[$meta:meta])* $name:ident: $module:ident :: $client:ident;)+) => {
        impl Api {$(
            $(#[$meta])*
            pub(crate) fn $name(&self) -> pb::$module::$client<Wire> {
                pb::$module::$client::new(self.wire.clone()).max_decoding_message_size(64 << 20)
            }
        )+}
    };
}
clients! {
    projects: project_service_client::ProjectServiceClient;
    instances: instance_service_client::InstanceServiceClient;
    objects: object_service_client::ObjectServiceClient;
    operations: operation_service_client::OperationServiceClient;
    hosts: host_service_client::HostServiceClient;
    proxies: proxy_service_client::ProxyServiceClient;
    keys: api_key_service_client::ApiKeyServiceClient;
    events: event_service_client::EventServiceClient;
}

impl Api {
    /// The API behind a channel, called with this key.
    pub(crate) fn new(channel: Channel, token: &str) -> Result<Self, Failure> {
        let mut bearer: MetadataValue<Ascii> = format!("Bearer {}", token.trim())
            .parse()
            .map_err(|_| Failure::Usage("the API key has characters that no key has; copy it again".to_owned()))?;
        bearer.set_sensitive(true);
        Ok(Self { wire: InterceptedService::new(channel, Bearer(bearer)) })
    }

    /// Calls, and calls again a few times while the control plane is not available.
    pub(crate) async fn call<T>(&self, attempt: impl AsyncFn() -> Result<Response<T>, Status>) -> Result<T, Failure> {
        let mut waits = RETRY_AFTER.iter();
        loop {
            match attempt().await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) if unreached(&status) => match waits.next() {
                    Some(wait) => tokio::time::sleep(*wait).await,
                    None => return Err(status.into()),
                },
                Err(status) => return Err(status.into()),
            }
        }
    }

    /// All pages of a list. `fetch` takes a page token and gives the page and the next token.
    pub(crate) async fn pages<T>(
        &self,
        fetch: impl AsyncFn(String) -> Result<(Vec<T>, String), Failure>,
    ) -> Result<Vec<T>, Failure> {
        let (mut items, mut token) = (Vec::new(), String::new());
        for _ in 0..MAX_PAGES {
            let (page, next) = fetch(token).await?;
            items.extend(page);
            if next.is_empty() {
                return Ok(items);
            }
            token = next;
        }
        Err(Failure::Local(format!("the list did not end after {MAX_PAGES} pages; narrow it with a filter")))
    }
}
