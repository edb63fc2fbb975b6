//! What is true of MariaDB without touching a host.

use std::collections::BTreeMap;

use super::{Descriptor, VerifierKind, version_key};
use crate::size::{MIB, Resources};

pub(super) const DESCRIPTOR: Descriptor = Descriptor {
    title: "MariaDB",
    client: "mariadb",
    uri_scheme: "mysql",
    default_database: "app",
    admin_user: "app",
    has_extensions: false,
    has_replicas: false,
    replica_minimums: &[],
    has_proxy: false,
    verifier: VerifierKind::MysqlNativePassword,
    managed_parameters: &[
        ("bind_address", "the address is the host's"),
        ("port", "the port is reserved per member"),
        ("socket", "each member has its own"),
        ("datadir", "the agent owns the layout"),
        ("pid_file", "the agent owns the layout"),
        ("tmpdir", "the agent owns the layout"),
        ("plugin_dir", "it belongs to the host's packages"),
        ("user", "the agent chooses the system user"),
        ("log_error", "logs go through the agent"),
        ("ssl_cert", "certificates come from the internal CA"),
        ("ssl_key", "certificates come from the internal CA"),
        ("ssl_ca", "certificates come from the internal CA"),
        ("server_id", "replication is Windlass's"),
        ("log_bin", "replication and backup need it"),
        ("sync_binlog", "acknowledged data must be durable"),
        ("innodb_flush_log_at_trx_commit", "acknowledged data must be durable"),
        ("innodb_doublewrite", "acknowledged data must be durable"),
        ("gtid_strict_mode", "replication needs it"),
        ("log_slave_updates", "replication needs it"),
        ("read_only", "it is the gate of failover"),
        ("enforce_storage_engine", "replication is safe for InnoDB only"),
        ("default_storage_engine", "replication is safe for InnoDB only"),
        ("skip_networking", "clients come by TCP"),
        ("init_file", "the agent owns bootstrapping"),
    ],
    defaults,
    version_key,
};

/// Half of memory for the buffer pool: MariaDB's knowledge base advises up to 80 % on a large dedicated server;
/// a member also needs room for connections, the binary log cache and the operating system within its limit.
fn defaults(size: &Resources) -> BTreeMap<String, String> {
    let memory = size.memory_bytes / MIB;
    let bytes = |mebibytes: u64| (mebibytes * MIB).to_string();
    BTreeMap::from([
        ("max_connections".to_owned(), (memory / 8).clamp(50, 2000).to_string()),
        ("innodb_buffer_pool_size".to_owned(), bytes((memory / 2).max(32))),
        ("innodb_log_file_size".to_owned(), bytes((size.disk_bytes / MIB / 16).clamp(16, 4096))),
        ("innodb_log_buffer_size".to_owned(), bytes((memory / 64).clamp(4, 64))),
        ("table_open_cache".to_owned(), (memory / 2).clamp(128, 4000).to_string()),
        ("key_buffer_size".to_owned(), bytes(8)),
        ("tmp_table_size".to_owned(), bytes((memory / 32).clamp(4, 64))),
        ("max_heap_table_size".to_owned(), bytes((memory / 32).clamp(4, 64))),
    ])
}
