//! What each RPC needs before its handler runs.
//!
//! Invariant: an RPC of the public API that is not in the table is refused, so a new one cannot be open by mistake.
//! The gate checks the role and the kind of scope here; which project a call is about, and whether the key reaches it,
//! is checked by the use case.

use windlass_core::role::Permission;

/// What an RPC needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    Open,
    /// The certificate or join token of an agent or a proxy, which the handler checks.
    Agent,
    /// A valid key, whatever its role and scope.
    AnyKey,
    /// A key with this permission.
    Key(Permission),
}

const API: &str = "/windlass.api.v1.";

/// RPCs of the public API, as `Service/Method`.
const TABLE: &[(&str, Access)] = &[
    ("ProjectService/CreateProject", Access::Key(Permission::FleetAdmin)),
    ("ProjectService/GetProject", Access::Key(Permission::ProjectRead)),
    ("ProjectService/ListProjects", Access::Key(Permission::ProjectRead)),
    ("ProjectService/UpdateProject", Access::Key(Permission::FleetAdmin)),
    ("ProjectService/DeleteProject", Access::Key(Permission::FleetAdmin)),
    ("InstanceService/CreateInstance", Access::Key(Permission::ProjectWrite)),
    ("InstanceService/GetInstance", Access::Key(Permission::ProjectRead)),
    ("InstanceService/ListInstances", Access::Key(Permission::ProjectRead)),
    ("InstanceService/UpdateInstance", Access::Key(Permission::ProjectWrite)),
    ("InstanceService/DeleteInstance", Access::Key(Permission::ProjectWrite)),
    ("InstanceService/UndeleteInstance", Access::Key(Permission::ProjectWrite)),
    ("InstanceService/StartInstance", Access::Key(Permission::ProjectWrite)),
    ("InstanceService/StopInstance", Access::Key(Permission::ProjectWrite)),
    ("InstanceService/RestartInstance", Access::Key(Permission::ProjectWrite)),
    ("InstanceService/SwitchoverInstance", Access::Key(Permission::ProjectWrite)),
    ("InstanceService/FailoverInstance", Access::Key(Permission::ProjectWrite)),
    ("InstanceService/AddReplica", Access::Key(Permission::ProjectWrite)),
    ("InstanceService/RemoveReplica", Access::Key(Permission::ProjectWrite)),
    ("InstanceService/ExplainInstance", Access::Key(Permission::ProjectRead)),
    ("InstanceService/GetConnection", Access::Key(Permission::ProjectWrite)),
    ("InstanceService/ListParameters", Access::Key(Permission::ProjectRead)),
    ("InstanceService/ListEngineVersions", Access::AnyKey),
    ("ObjectService/CreateObject", Access::Key(Permission::ProjectWrite)),
    ("ObjectService/ListObjects", Access::Key(Permission::ProjectRead)),
    ("ObjectService/DropObject", Access::Key(Permission::ProjectWrite)),
    ("OperationService/GetOperation", Access::Key(Permission::ProjectRead)),
    ("OperationService/ListOperations", Access::Key(Permission::ProjectRead)),
    ("OperationService/WaitOperation", Access::Key(Permission::ProjectRead)),
    ("OperationService/CancelOperation", Access::Key(Permission::ProjectWrite)),
    ("HostService/GetHost", Access::Key(Permission::FleetRead)),
    ("HostService/ListHosts", Access::Key(Permission::FleetRead)),
    ("HostService/UpdateHost", Access::Key(Permission::FleetAdmin)),
    ("HostService/CordonHost", Access::Key(Permission::FleetOperate)),
    ("HostService/UncordonHost", Access::Key(Permission::FleetOperate)),
    ("HostService/DrainHost", Access::Key(Permission::FleetOperate)),
    ("HostService/RevokeHost", Access::Key(Permission::FleetAdmin)),
    ("HostService/CreateJoinToken", Access::Key(Permission::FleetAdmin)),
    ("HostService/ListJoinTokens", Access::Key(Permission::FleetRead)),
    ("HostService/RevokeJoinToken", Access::Key(Permission::FleetAdmin)),
    ("ProxyService/GetProxy", Access::Key(Permission::FleetRead)),
    ("ProxyService/ListProxies", Access::Key(Permission::FleetRead)),
    ("ProxyService/RevokeProxy", Access::Key(Permission::FleetAdmin)),
    ("ApiKeyService/CreateApiKey", Access::Key(Permission::ProjectAdmin)),
    ("ApiKeyService/ListApiKeys", Access::Key(Permission::ProjectAdmin)),
    ("ApiKeyService/RevokeApiKey", Access::Key(Permission::ProjectAdmin)),
    ("ApiKeyService/WhoAmI", Access::AnyKey),
    ("EventService/ListEvents", Access::Key(Permission::ProjectRead)),
];

/// What the RPC at this HTTP path needs; None for one that nobody declared. Reflection asks for a key because the
/// API's shape is nobody else's business; health is open for load balancers.
pub fn required(path: &str) -> Option<Access> {
    if let Some(method) = path.strip_prefix(API) {
        return TABLE.iter().find(|(name, _)| *name == method).map(|(_, access)| *access);
    }
    if path.starts_with("/windlass.agent.v1.") || path.starts_with("/windlass.proxy.v1.") {
        return Some(Access::Agent);
    }
    if path.starts_with("/grpc.reflection.") {
        return Some(Access::AnyKey);
    }
    path.starts_with("/grpc.health.v1.").then_some(Access::Open)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;

    /// Every `Service/Method` that the contracts declare for the public API.
    fn declared() -> BTreeSet<String> {
        let set = FileDescriptorSet::decode(windlass_proto::DESCRIPTORS).expect("descriptors");
        set.file
            .iter()
            .filter(|file| file.package() == "windlass.api.v1")
            .flat_map(|file| &file.service)
            .flat_map(|service| service.method.iter().map(move |m| format!("{}/{}", service.name(), m.name())))
            .collect()
    }

    #[test]
    fn the_table_has_exactly_the_rpcs_of_the_contracts() {
        let table: BTreeSet<String> = TABLE.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(table, declared());
        assert_eq!(table.len(), TABLE.len(), "an RPC is there twice");
    }

    #[test]
    fn what_is_not_declared_is_refused() {
        assert_eq!(required("/windlass.api.v1.ProjectService/Nuke"), None);
        assert_eq!(required("/else"), None);
        assert_eq!(required("/grpc.health.v1.Health/Check"), Some(Access::Open));
        assert_eq!(required("/windlass.agent.v1.AgentService/Poll"), Some(Access::Agent));
    }
}
