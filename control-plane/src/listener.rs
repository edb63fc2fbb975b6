//! The one port: TLS, the gate, and every service behind it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use windlass_core::{Error, Reason};
use windlass_db::Db;
use windlass_kit::{
    random,
    shutdown::{Shutdown, TaskKind},
    tls,
};
use windlass_proto::{
    agent::v1::{agent_service_server::AgentServiceServer, enrolment_service_server::EnrolmentServiceServer},
    proxy::v1::{enrolment_service_server as proxy_enrolment, proxy_service_server::ProxyServiceServer},
};

use crate::{
    api::{
        Api, agent::AgentApi, auth::Authenticator, gate::GateLayer, limit::Limiter, proxy::ProxyApi,
        server::MESSAGE_MAX,
    },
    app::Context,
    config::Config,
    pki,
    queue::Queue,
};

/// How often the health service asks the metadata, and how long it waits for it.
const HEALTH_EVERY: Duration = Duration::from_secs(5);

/// Takes the port; gives its address, with the number that the kernel chose for port 0.
///
/// # Errors
/// `UNAVAILABLE` when it is taken or the address is not this machine's.
pub(crate) async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let taken = |error: std::io::Error| {
        Error::precondition(
            Reason::Unavailable,
            format!("cannot listen on {address}: {error}; stop what uses it or set listen to another address"),
        )
        .with_source(error)
    };
    let listener = TcpListener::bind(address).await.map_err(taken)?;
    let address = listener.local_addr().map_err(taken)?;
    Ok((listener, address))
}

/// Puts every service behind TLS on the listener, until shutdown.
///
/// # Errors
/// `INVALID_FIELD` for a name in `advertise` that is neither a DNS name nor an address; `INTERNAL` otherwise.
pub(crate) fn serve(
    context: &Arc<Context>,
    queue: Queue,
    listener: TcpListener,
    address: SocketAddr,
    shutdown: &Shutdown,
) -> Result<(), Error> {
    let names = server_names(&context.config, address);
    let identity = pki::keep_server_identity(context.authority.clone(), names, shutdown)?;
    let clients = context.authority.authorities()?;
    let authenticator = Arc::new(Authenticator::new(context.db.clone()));
    let gate = GateLayer::new(authenticator.clone(), Limiter::new(&context.config.limits));
    let agents = AgentApi::new(context.clone(), queue, shutdown.token().clone());
    let proxies = ProxyApi::new(context.clone(), shutdown.token().clone());
    let mut routes = Api::new(context.clone(), authenticator).routes()?;
    routes
        .add_service(health(context.db.clone(), shutdown))
        .add_service(EnrolmentServiceServer::new(agents.clone()).max_decoding_message_size(MESSAGE_MAX))
        .add_service(AgentServiceServer::new(agents).max_decoding_message_size(MESSAGE_MAX))
        .add_service(
            proxy_enrolment::EnrolmentServiceServer::new(proxies.clone()).max_decoding_message_size(MESSAGE_MAX),
        )
        .add_service(ProxyServiceServer::new(proxies).max_decoding_message_size(MESSAGE_MAX));
    let routes: Routes = routes.routes();
    let incoming = tls::serve(listener, identity, &clients, tls::Limits::default(), shutdown)?;
    let mut server = tls::server(random::unit()).layer(gate);
    let begun = shutdown.clone();
    shutdown.spawn("api", TaskKind::Vital, async move {
        server
            .add_routes(routes)
            .serve_with_incoming_shutdown(incoming, async move { begun.begun().await })
            .await
            .map_err(|error| Error::internal("the API server failed").with_source(error))
    });
    Ok(())
}

/// The standard health service: SERVING while the metadata answers, until shutdown begins. For load balancers; agents
/// and clients need not ask.
fn health(
    db: Db,
    shutdown: &Shutdown,
) -> tonic_health::pb::health_server::HealthServer<impl tonic_health::pb::health_server::Health> {
    let (reporter, service) = tonic_health::server::health_reporter();
    let begun = shutdown.token().clone();
    shutdown.spawn("health", TaskKind::Vital, async move {
        loop {
            let answers = matches!(tokio::time::timeout(HEALTH_EVERY, db.ping()).await, Ok(Ok(())));
            let status = if answers { ServingStatus::Serving } else { ServingStatus::NotServing };
            reporter.set_service_status("", status).await;
            if begun.run_until_cancelled(tokio::time::sleep(HEALTH_EVERY)).await.is_none() {
                reporter.set_service_status("", ServingStatus::NotServing).await;
                return Ok(());
            }
        }
    });
    service
}

/// Names and addresses that the server certificate is good for.
fn server_names(config: &Config, address: SocketAddr) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if !address.ip().is_unspecified() {
        names.push(address.ip().to_string());
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let is_dns = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    names.extend(Some(host.trim().to_owned()).filter(|name| !name.is_empty() && is_dns(name)));
    names.extend(config.advertise.iter().cloned());
    names.sort();
    names.dedup();
    names
}
