//! The configuration files of the embedded database. Written anew before each start, so that hand edits and old
//! versions' settings do not accumulate.

use std::path::Path;

use super::account::Account;

/// The database role that owns everything.
pub const ROLE: &str = "windlass";

/// `postgresql.conf`: a small server that loses nothing. Idle memory counts more than throughput: the metadata of
/// thousands of instances is a few megabytes.
pub fn postgresql_conf(socket_dir: &Path) -> String {
    format!(
        "# Written by the Windlass control plane before each start; changes here are lost.
listen_addresses = ''
unix_socket_directories = {socket}
unix_socket_permissions = 0700
max_connections = 60
superuser_reserved_connections = 3
shared_buffers = 32MB
work_mem = 2MB
maintenance_work_mem = 16MB
effective_cache_size = 256MB
max_worker_processes = 2
max_parallel_workers = 0
max_parallel_workers_per_gather = 0
max_parallel_maintenance_workers = 0
autovacuum_max_workers = 1
max_wal_senders = 2
max_logical_replication_workers = 0
max_wal_size = 256MB
min_wal_size = 32MB
wal_compression = on
checkpoint_timeout = 15min
random_page_cost = 1.1
jit = off
huge_pages = off
timezone = 'UTC'
log_timezone = 'UTC'
lc_messages = 'C'
cluster_name = 'windlass-metadata'
logging_collector = on
log_directory = '../log'
log_filename = 'postgresql-%a.log'
log_truncate_on_rotation = on
log_rotation_age = 1d
log_rotation_size = 0
log_line_prefix = '%m [%p] '
log_autovacuum_min_duration = -1
log_checkpoints = off
",
        socket = quote(&socket_dir.to_string_lossy())
    )
}

/// `pg_hba.conf`: only the control plane's own system user, proved by the kernel.
pub fn hba_conf() -> String {
    format!("local all {ROLE} peer map=windlass\n")
}

/// `pg_ident.conf`: that user stands for the role.
pub fn ident_conf(client: &Account) -> String {
    format!("windlass \"{}\" {ROLE}\n", client.name)
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
