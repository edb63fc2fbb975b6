//! Hosts, projects and catalogues as they come to be in a real installation, without the wire.

use std::collections::BTreeMap;

use serde_json::json;
use windlass_core::{
    engine::Engine,
    host::HostState,
    id::{HostId, JoinTokenId, ProjectId},
    parameter::{Apply, Catalogue, Domain, Parameter},
    size::{GIB, Resources},
};
use windlass_db::{
    Db,
    agents::{AgentHello, EnrollingHost, host_enrol_tx, host_hello_tx, hosts_move_tx},
    catalogues::CatalogueReport,
    projects::{Amount, project_insert_tx},
};

/// Room of a test host: 4 cores (16 with the default overcommit), 8 GiB, 100 GiB, ports 20000 to 20049.
pub(crate) const ROOM: Resources = Resources { cpu_millis: 4000, memory_bytes: 8 * GIB, disk_bytes: 100 * GIB };

/// Enrols a host whose agent polls and which has PostgreSQL 14 and 15 and MariaDB 10.11.
pub(crate) async fn add_host(db: &Db, name: &str, capacity: Resources) -> HostId {
    let id = HostId::new();
    let mut tx = db.begin().await.expect("begin");
    let host = EnrollingHost { id, name, region: "eu", zone: name, labels: &BTreeMap::new() };
    host_enrol_tx(&mut tx, &host, JoinTokenId::new(), b"key").await.expect("enrol");
    let engines = [("postgres", "14"), ("postgres", "15"), ("mariadb", "10.11")];
    let engines: Vec<_> = engines
        .iter()
        .map(|(engine, version)| json!({"engine": engine, "version": version, "full_version": format!("{version}.1")}))
        .collect();
    let hello = AgentHello {
        agent_version: "0.1.0".into(),
        boot_id: "boot".into(),
        session_id: "session".into(),
        capacity,
        address: format!("{name}.test"),
        port_low: 20000,
        port_high: 20049,
        peer_port: 7411,
        engines: json!(engines),
    };
    host_hello_tx(&mut tx, id, &hello).await.expect("hello");
    hosts_move_tx(&mut tx, &[id], HostState::Online).await.expect("online");
    tx.commit().await.expect("commit");
    id
}

/// A project that may reserve a lot.
pub(crate) async fn add_project(db: &Db, name: &str, instances: u64) -> ProjectId {
    let id = ProjectId::new();
    let quota = Amount {
        instances,
        resources: Resources { cpu_millis: 1_000_000, memory_bytes: 1 << 45, disk_bytes: 1 << 45 },
    };
    let mut tx = db.begin().await.expect("begin");
    project_insert_tx(&mut tx, id, name, &BTreeMap::new(), &quota).await.expect("project");
    tx.commit().await.expect("commit");
    id
}

/// Stores a small catalogue for PostgreSQL 15.
pub(crate) async fn catalogue(db: &Db) {
    let entry = |name: &str, apply| Parameter {
        name: name.to_owned(),
        domain: Domain::Integer { min: 64, max: 1 << 30, unit: "kB".into() },
        apply,
        default: "4096".into(),
        description: "A test's".into(),
    };
    let all = [entry("work_mem", Apply::Dynamic), entry("shared_buffers", Apply::Restart)];
    let catalogue = Catalogue(all.into_iter().map(|p| (p.name.clone(), p)).collect());
    db.catalogue_put(&CatalogueReport {
        engine: Engine::Postgres.to_string(),
        version: "15".into(),
        full_version: "15.1".into(),
        digest: "d".into(),
        catalogue: serde_json::to_value(catalogue).expect("json"),
    })
    .await
    .expect("catalogue");
}
