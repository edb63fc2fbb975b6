//! Who may call what: the role matrix over every RPC, and the isolation of projects.
//!
//! Both walk the contracts, so an RPC without an entry here fails the test.

use prost::Message as _;
use tonic::Code;
use windlass_control_plane::api::access::{Access, required};
use windlass_core::{
    engine::Engine,
    id::{InstanceId, OperationId, ProjectId},
    instance::{InstanceSpec, PlacementRules, Power},
    role::{Permission, Role, Scope},
    size::Resources,
};
use windlass_db::{
    events::{NewEvent, event_add_tx},
    instances::{NewInstance, instance_insert_tx},
    operations::{NewOperation, operation_add_tx},
    sagas::{NewSaga, saga_add_tx},
};
use windlass_proto::api::v1 as pb;

use crate::harness::{Fixture, methods, reason};

#[tokio::test(flavor = "multi_thread")]
async fn every_rpc_asks_for_its_permission() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let project: ProjectId = admin.project("own").await.uid.parse().expect("uid");
    for role in Role::ALL {
        for (named, scope) in [(None, Scope::Installation), (Some("own"), Scope::Project(project))] {
            let client = fixture.client(*role, named).await;
            let own = named.map(|_| &project);
            for method in methods() {
                let allowed = match required(&method) {
                    Some(Access::AnyKey) => true,
                    Some(Access::Key(permission)) => role.check(&scope, permission, own).is_ok(),
                    other => panic!("{method}: {other:?} is no access for the public API"),
                };
                // An empty message: what passes the gate is refused for its content, or does something harmless.
                let answer = client.raw(&method, Vec::new()).await;
                let denied = answer.as_ref().is_err_and(|status| status.code() == Code::PermissionDenied);
                if allowed && matches!(required(&method), Some(Access::Key(Permission::ProjectAdmin))) {
                    // A project's admin may make keys, but not for the installation, as an empty message asks.
                    continue;
                }
                assert_eq!(denied, !allowed, "{role} of {named:?} calling {method}: {answer:?}");
            }
        }
    }
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projects_key_neither_sees_nor_touches_another_project() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    admin.project("mine").await;
    let theirs = Theirs::make(&fixture, &admin.project("theirs").await).await;
    let before = theirs.fingerprint(&fixture).await;
    let intruder = fixture.client(Role::Admin, Some("mine")).await;
    for method in methods() {
        let requests = theirs.requests(&method);
        assert!(!requests.is_empty(), "{method} has no request in this test; add one that asks for another project");
        for request in requests {
            match intruder.raw(&method, request).await {
                Err(status) => {
                    assert!(
                        matches!(status.code(), Code::PermissionDenied | Code::NotFound),
                        "{method} is refused for another reason: {status:?}"
                    );
                    assert!(["PERMISSION_MISSING", "NOT_FOUND"].contains(&reason(&status).as_str()), "{status:?}");
                }
                Ok(answer) => {
                    let shown = String::from_utf8_lossy(&answer);
                    for secret in [&theirs.project, &theirs.instance, &theirs.operation, &theirs.key_id] {
                        assert!(!shown.contains(secret.as_str()), "{method} shows {secret}");
                    }
                    assert!(!shown.contains("theirs"), "{method} shows the other project: {shown}");
                }
            }
        }
    }
    assert_eq!(theirs.fingerprint(&fixture).await, before, "something of the other project changed");
    fixture.stop().await;
}

/// What the other project has.
struct Theirs {
    project: String,
    instance: String,
    operation: String,
    key_id: String,
}

impl Theirs {
    async fn make(fixture: &Fixture, project: &pb::Project) -> Self {
        let project_id: ProjectId = project.uid.parse().expect("uid");
        let (instance, operation) = (InstanceId::new(), OperationId::new());
        let mut tx = fixture.plane.db().begin().await.expect("begin");
        let spec = InstanceSpec {
            engine: Engine::Postgres,
            version: "15".to_owned(),
            resources: Resources::DEFAULT,
            power: Power::On,
            parameters: Default::default(),
            placement: PlacementRules::default(),
            deletion_protection: false,
            restarts: 0,
            replication: windlass_core::replication::Replication::default(),
        };
        let labels = Default::default();
        let new = NewInstance { id: instance, project_id, name: "db", labels: &labels, spec: &spec, shard: 0 };
        instance_insert_tx(&mut tx, &new).await.expect("instance");
        let new = NewOperation {
            id: operation,
            project: Some(project_id),
            instance: Some(instance),
            kind: "instance.stop".to_owned(),
            target: "projects/theirs/instances/db".to_owned(),
            actor: "system".to_owned(),
        };
        operation_add_tx(&mut tx, &new).await.expect("operation");
        // A version that nobody knows: the executor leaves it alone.
        let saga =
            NewSaga { id: operation, kind: new.kind.clone(), version: 9999, shard: 0, data: serde_json::json!({}) };
        saga_add_tx(&mut tx, &saga).await.expect("saga");
        let event = NewEvent::info("instance.created", "projects/theirs/instances/db", "made");
        event_add_tx(&mut tx, NewEvent { project: Some(project_id), ..event }).await.expect("event");
        tx.commit().await.expect("commit");
        let key = fixture.client(Role::Admin, Some("theirs")).await;
        let key = key.keys().who_am_i(pb::WhoAmIRequest {}).await.expect("key").into_inner();
        Self {
            project: project.uid.clone(),
            instance: instance.to_string(),
            operation: operation.to_string(),
            key_id: key.uid,
        }
    }

    /// What must not change.
    async fn fingerprint(&self, fixture: &Fixture) -> Vec<i64> {
        let mut numbers = Vec::new();
        for query in [
            "select revision from project where name = 'theirs'",
            "select generation + revision from instance",
            "select count(*) from instance",
            "select count(*) from project",
            "select count(*) from host",
            "select count(*) from database_object",
            "select count(*) from api_key where revoke_time is not null",
            "select count(*) from saga where cancel_requested",
            "select count(*) from operation",
        ] {
            numbers.push(fixture.test_db.count(query).await);
        }
        numbers
    }

    /// Requests that ask for the other project, as its name and as its uid; for lists also all that there is.
    fn requests(&self, method: &str) -> Vec<Vec<u8>> {
        let projects = ["theirs", self.project.as_str()];
        let instances = ["db", self.instance.as_str()];
        let mut names = Vec::new();
        for project in projects {
            for instance in instances {
                names.push(format!("projects/{project}/instances/{instance}"));
            }
        }
        let parents: Vec<String> = projects.iter().map(|project| format!("projects/{project}")).collect();
        let per = |texts: &[String], make: &dyn Fn(&str) -> Vec<u8>| texts.iter().map(|text| make(text)).collect();
        let verb = |name: &str| pb::InstanceVerbRequest { name: name.to_owned(), ..Default::default() }.encode_to_vec();
        let host = || {
            let request = pb::HostVerbRequest { name: "hosts/h".to_owned(), ..Default::default() };
            vec![request.encode_to_vec()]
        };
        let operation = format!("operations/{}", self.operation);
        match method.trim_start_matches("/windlass.api.v1.") {
            "ProjectService/CreateProject" => {
                let request = pb::CreateProjectRequest { project_id: "theirs".to_owned(), ..Default::default() };
                vec![request.encode_to_vec()]
            }
            "ProjectService/GetProject" => {
                per(&parents, &|name| pb::GetProjectRequest { name: name.to_owned() }.encode_to_vec())
            }
            "ProjectService/ListProjects" => vec![pb::ListProjectsRequest::default().encode_to_vec()],
            "ProjectService/UpdateProject" => per(&parents, &|name| {
                let project = pb::Project {
                    name: name.to_owned(),
                    labels: [("x".to_owned(), "y".to_owned())].into(),
                    ..Default::default()
                };
                pb::UpdateProjectRequest { project: Some(project), ..Default::default() }.encode_to_vec()
            }),
            "ProjectService/DeleteProject" => per(&parents, &|name| {
                pb::DeleteProjectRequest { name: name.to_owned(), ..Default::default() }.encode_to_vec()
            }),
            "InstanceService/CreateInstance" => per(&parents, &|parent| {
                let instance = pb::Instance { engine: "postgres".to_owned(), ..Default::default() };
                pb::CreateInstanceRequest {
                    parent: parent.to_owned(),
                    instance_id: "new".to_owned(),
                    instance: Some(instance),
                    ..Default::default()
                }
                .encode_to_vec()
            }),
            "InstanceService/GetInstance" => {
                per(&names, &|name| pb::GetInstanceRequest { name: name.to_owned() }.encode_to_vec())
            }
            "InstanceService/ListInstances" => {
                let list = |parent: &str| {
                    pb::ListInstancesRequest { parent: parent.to_owned(), show_deleted: true, ..Default::default() }
                        .encode_to_vec()
                };
                vec![list("projects/theirs"), list(&parents[1]), list("projects/-"), list("")]
            }
            "InstanceService/UpdateInstance" => per(&names, &|name| {
                let instance = pb::Instance { name: name.to_owned(), deletion_protection: true, ..Default::default() };
                pb::UpdateInstanceRequest { instance: Some(instance), ..Default::default() }.encode_to_vec()
            }),
            "InstanceService/DeleteInstance" => per(&names, &|name| {
                pb::DeleteInstanceRequest { name: name.to_owned(), purge: true, ..Default::default() }.encode_to_vec()
            }),
            "InstanceService/UndeleteInstance" => per(&names, &|name| {
                pb::UndeleteInstanceRequest { name: name.to_owned(), ..Default::default() }.encode_to_vec()
            }),
            "InstanceService/StartInstance" | "InstanceService/StopInstance" | "InstanceService/RestartInstance" => {
                per(&names, &verb)
            }
            "InstanceService/SwitchoverInstance" => per(&names, &|name| {
                pb::SwitchoverInstanceRequest { name: name.to_owned(), ..Default::default() }.encode_to_vec()
            }),
            "InstanceService/FailoverInstance" => per(&names, &|name| {
                pb::FailoverInstanceRequest { name: name.to_owned(), ..Default::default() }.encode_to_vec()
            }),
            "InstanceService/AddReplica" => per(&names, &|name| {
                pb::AddReplicaRequest { name: name.to_owned(), ..Default::default() }.encode_to_vec()
            }),
            "InstanceService/RemoveReplica" => per(&names, &|name| {
                pb::RemoveReplicaRequest { name: name.to_owned(), ..Default::default() }.encode_to_vec()
            }),
            "InstanceService/ExplainInstance" => {
                per(&names, &|name| pb::ExplainInstanceRequest { name: name.to_owned() }.encode_to_vec())
            }
            "InstanceService/GetConnection" => per(&names, &|name| {
                pb::GetConnectionRequest { name: name.to_owned(), ..Default::default() }.encode_to_vec()
            }),
            "InstanceService/ListParameters" => per(&names, &|name| {
                pb::ListParametersRequest { name: name.to_owned(), user_only: true }.encode_to_vec()
            }),
            "InstanceService/ListEngineVersions" => vec![Vec::new()],
            "ObjectService/CreateObject" => per(&names, &|parent| {
                let object = pb::DatabaseObject { kind: 2, ..Default::default() };
                pb::CreateObjectRequest {
                    parent: parent.to_owned(),
                    object_id: "spy".to_owned(),
                    object: Some(object),
                    ..Default::default()
                }
                .encode_to_vec()
            }),
            "ObjectService/ListObjects" => per(&names, &|parent| {
                pb::ListObjectsRequest { parent: parent.to_owned(), ..Default::default() }.encode_to_vec()
            }),
            "ObjectService/DropObject" => per(&names, &|parent| {
                pb::DropObjectRequest { name: format!("{parent}/users/app"), ..Default::default() }.encode_to_vec()
            }),
            "OperationService/GetOperation" => vec![pb::GetOperationRequest { name: operation }.encode_to_vec()],
            "OperationService/ListOperations" => {
                let list = |parent: &str| {
                    pb::ListOperationsRequest { parent: parent.to_owned(), ..Default::default() }.encode_to_vec()
                };
                vec![list("projects/theirs"), list(&parents[1]), list("")]
            }
            "OperationService/WaitOperation" => {
                vec![pb::WaitOperationRequest { name: operation, ..Default::default() }.encode_to_vec()]
            }
            "OperationService/CancelOperation" => {
                vec![pb::CancelOperationRequest { name: operation }.encode_to_vec()]
            }
            "HostService/GetHost" => vec![pb::GetHostRequest { name: "hosts/h".to_owned() }.encode_to_vec()],
            "HostService/ListHosts" => vec![pb::ListHostsRequest::default().encode_to_vec()],
            "HostService/UpdateHost" => vec![pb::UpdateHostRequest::default().encode_to_vec()],
            "HostService/CordonHost"
            | "HostService/UncordonHost"
            | "HostService/DrainHost"
            | "HostService/RevokeHost" => host(),
            "ProxyService/GetProxy" => vec![pb::GetProxyRequest { name: "proxies/p".to_owned() }.encode_to_vec()],
            "ProxyService/ListProxies" => vec![pb::ListProxiesRequest::default().encode_to_vec()],
            "ProxyService/RevokeProxy" => {
                vec![pb::RevokeProxyRequest { name: "proxies/p".to_owned(), ..Default::default() }.encode_to_vec()]
            }
            "HostService/CreateJoinToken" => vec![pb::CreateJoinTokenRequest::default().encode_to_vec()],
            "HostService/ListJoinTokens" => vec![pb::ListJoinTokensRequest::default().encode_to_vec()],
            "HostService/RevokeJoinToken" => vec![pb::RevokeJoinTokenRequest::default().encode_to_vec()],
            "ApiKeyService/CreateApiKey" => per(&["".to_owned(), parents[0].clone(), parents[1].clone()], &|project| {
                let key = pb::ApiKey {
                    title: "spy".to_owned(),
                    role: "admin".to_owned(),
                    project: project.to_owned(),
                    ..Default::default()
                };
                pb::CreateApiKeyRequest { api_key: Some(key), ..Default::default() }.encode_to_vec()
            }),
            "ApiKeyService/ListApiKeys" => vec![pb::ListApiKeysRequest::default().encode_to_vec()],
            "ApiKeyService/RevokeApiKey" => {
                let request =
                    pb::RevokeApiKeyRequest { name: format!("apiKeys/{}", self.key_id), ..Default::default() };
                vec![request.encode_to_vec()]
            }
            "ApiKeyService/WhoAmI" => vec![Vec::new()],
            "EventService/ListEvents" => {
                let list = |parent: &str, target: &str| {
                    pb::ListEventsRequest { parent: parent.to_owned(), target: target.to_owned(), ..Default::default() }
                        .encode_to_vec()
                };
                vec![list("projects/theirs", ""), list(&parents[1], ""), list("", ""), list("", &names[0])]
            }
            _ => Vec::new(),
        }
    }
}
