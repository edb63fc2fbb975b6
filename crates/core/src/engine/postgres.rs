//! What is true of PostgreSQL without touching a host.

use std::collections::BTreeMap;

use super::{Descriptor, VerifierKind, version_key};
use crate::size::{MIB, Resources};

pub(super) const DESCRIPTOR: Descriptor = Descriptor {
    title: "PostgreSQL",
    client: "psql",
    uri_scheme: "postgresql",
    default_database: "app",
    admin_user: "app",
    has_extensions: true,
    has_replicas: true,
    replica_minimums: &[
        "max_connections",
        "max_worker_processes",
        "max_wal_senders",
        "max_prepared_transactions",
        "max_locks_per_transaction",
    ],
    has_proxy: true,
    verifier: VerifierKind::ScramSha256,
    managed_parameters: &[
        ("listen_addresses", "the address is the host's"),
        ("port", "the port is reserved per member"),
        ("unix_socket_directories", "each member has its own"),
        ("unix_socket_permissions", "each member has its own"),
        ("data_directory", "the agent owns the layout"),
        ("hba_file", "the agent owns client authentication"),
        ("ident_file", "the agent owns client authentication"),
        ("external_pid_file", "the agent owns the layout"),
        ("ssl", "TLS is always on"),
        ("ssl_cert_file", "certificates come from the internal CA"),
        ("ssl_key_file", "certificates come from the internal CA"),
        ("ssl_ca_file", "certificates come from the internal CA"),
        ("password_encryption", "SCRAM only"),
        ("logging_collector", "logs go through the agent"),
        ("log_destination", "logs go through the agent"),
        ("restart_after_crash", "only the agent decides on a restart"),
        ("fsync", "acknowledged data must be durable"),
        ("full_page_writes", "acknowledged data must be durable"),
        ("wal_level", "replication needs it"),
        ("wal_log_hints", "rejoining needs it"),
        ("hot_standby", "replication needs it"),
        ("primary_conninfo", "replication is Windlass's"),
        ("primary_slot_name", "replication is Windlass's"),
        ("synchronous_standby_names", "replication is Windlass's"),
        ("restore_command", "recovery is Windlass's"),
        ("archive_command", "backup is Windlass's"),
        ("archive_library", "backup is Windlass's"),
        ("archive_mode", "backup is Windlass's"),
        ("cluster_name", "it names the member"),
    ],
    defaults,
    version_key,
};

/// Shares of memory as PostgreSQL's manual advises for a dedicated server (section 20.4: a quarter for
/// `shared_buffers`), with `work_mem` sized so that every connection sorting once stays within another quarter.
fn defaults(size: &Resources) -> BTreeMap<String, String> {
    let memory = size.memory_bytes / MIB;
    let cores = size.cpu_millis.div_ceil(1000).clamp(1, 64);
    let connections = (memory / 8).clamp(50, 1000);
    let mb = |mebibytes: u64| format!("{mebibytes}MB");
    BTreeMap::from([
        ("max_connections".to_owned(), connections.to_string()),
        ("shared_buffers".to_owned(), mb((memory / 4).max(32))),
        ("effective_cache_size".to_owned(), mb(memory * 3 / 4)),
        ("work_mem".to_owned(), mb((memory / 4 / connections).clamp(1, 256))),
        ("maintenance_work_mem".to_owned(), mb((memory / 16).clamp(16, 2048))),
        ("max_wal_size".to_owned(), mb((size.disk_bytes / MIB / 8).clamp(64, 16_384))),
        ("min_wal_size".to_owned(), mb(32)),
        ("max_worker_processes".to_owned(), (cores + 8).to_string()),
        ("max_parallel_workers".to_owned(), cores.to_string()),
        ("max_parallel_workers_per_gather".to_owned(), (cores / 2).min(4).to_string()),
        ("random_page_cost".to_owned(), "1.1".to_owned()),
        ("checkpoint_completion_target".to_owned(), "0.9".to_owned()),
    ])
}
