//! Resources as the API gives them, for the tests to show.

use std::collections::BTreeMap;

use jiff::Timestamp;
use windlass_proto::api::v1 as pb;

/// A time so many seconds ago. Half a minute more keeps it within the same minute for as long as a test runs.
pub(crate) fn ago(seconds: i64) -> Option<pbjson_types::Timestamp> {
    Some(pbjson_types::Timestamp { seconds: Timestamp::now().as_second() - seconds, nanos: 0 })
}

pub(crate) fn instance(name: &str) -> pb::Instance {
    let mut instance = pb::Instance {
        name: format!("projects/demo/instances/{name}"),
        uid: "0190a000-0000-7000-8000-000000000001".to_owned(),
        engine: "postgres".to_owned(),
        version: "15".to_owned(),
        resources: Some(pb::Resources { cpu_millis: 500, memory_bytes: 512 << 20, disk_bytes: 2 << 30 }),
        parameters: BTreeMap::from([("work_mem".to_owned(), "8MB".to_owned())]),
        labels: BTreeMap::from([("team".to_owned(), "shop".to_owned())]),
        endpoints: vec![pb::Endpoint {
            host: "10.0.0.7".to_owned(),
            port: 5501,
            role: "primary".to_owned(),
            via: "direct".to_owned(),
        }],
        members: vec![pb::Member {
            host: "hosts/host-1".to_owned(),
            role: "primary".to_owned(),
            port: 5501,
            process: "RUNNING".to_owned(),
            observed_time: ago(150),
            disk_used_bytes: 40 << 20,
            memory_used_bytes: 30 << 20,
            connections: 3,
            ..Default::default()
        }],
        generation: 2,
        observed_generation: 2,
        etag: "e2".to_owned(),
        create_time: ago(3 * 3600 + 30),
        ..Default::default()
    };
    instance.set_state(pb::instance::State::Running);
    instance.set_health(pb::instance::Health::Healthy);
    instance
}

pub(crate) fn host(name: &str) -> pb::Host {
    let mut host = pb::Host {
        name: format!("hosts/{name}"),
        zone: "z1".to_owned(),
        region: "north".to_owned(),
        capacity: Some(pb::Resources { cpu_millis: 8000, memory_bytes: 16 << 30, disk_bytes: 200 << 30 }),
        reserved: Some(pb::Resources { cpu_millis: 1500, memory_bytes: 2 << 30, disk_bytes: 10 << 30 }),
        engines: vec![pb::HostEngine {
            engine: "postgres".to_owned(),
            version: "15".to_owned(),
            full_version: "15.18".to_owned(),
        }],
        members: 2,
        last_seen_time: ago(150),
        ..Default::default()
    };
    host.set_state(pb::host::State::Online);
    host
}

/// An operation in a state, at a revision, with its steps.
pub(crate) fn operation(
    state: pb::operation::State,
    revision: u64,
    steps: &[(&str, pb::operation::step::State)],
) -> pb::Operation {
    use pb::operation::State;
    let steps = steps.iter().map(|(title, state)| {
        let mut step =
            pb::operation::Step { name: title.to_lowercase(), title: (*title).to_owned(), ..Default::default() };
        step.set_state(*state);
        step
    });
    let mut operation = pb::Operation {
        name: "operations/op-1".to_owned(),
        uid: "op-1".to_owned(),
        kind: "instance.create".to_owned(),
        target: "projects/demo/instances/pg-1".to_owned(),
        done: matches!(state, State::Succeeded | State::Failed | State::Cancelled),
        revision,
        steps: steps.collect(),
        create_time: ago(150),
        ..Default::default()
    };
    operation.set_state(state);
    operation
}

/// A key for the whole installation.
pub(crate) fn key() -> pb::ApiKey {
    pb::ApiKey {
        name: "apiKeys/k-1".to_owned(),
        uid: "k-1".to_owned(),
        title: "me".to_owned(),
        role: "admin".to_owned(),
        prefix: "wl_0123abcd".to_owned(),
        create_time: ago(3 * 3600 + 30),
        ..Default::default()
    }
}
