//! Routes for tests.

use windlass_core::{
    engine::Engine,
    id::{InstanceId, MemberId},
};

use super::{Backend, ReadFallback, Route, Settings, State};

/// An open route of `name` in the project `shop`.
pub(crate) fn route(name: &str, epoch: u64, rev: u64) -> Route {
    Route {
        instance: InstanceId::new(),
        project: "shop".to_owned(),
        name: name.to_owned(),
        engine: Engine::Postgres,
        epoch,
        rev,
        state: State::Open,
        primary: Some(backend()),
        replicas: Vec::new(),
        settings: Settings {
            max_clients: None,
            max_clients_per_user: None,
            max_backends: None,
            pooling: None,
            hold: None,
            read_fallback: ReadFallback::Primary,
        },
        ca_pem: "".into(),
    }
}

/// A backend that does not exist.
pub(crate) fn backend() -> Backend {
    Backend {
        member: MemberId::new(),
        host: "h".to_owned(),
        address: "127.0.0.1".to_owned(),
        port: 1,
        lag_bytes: 0,
        streaming: true,
    }
}
