//! The clients that are known, and starting one in the place of this process.

use std::{
    env,
    ffi::OsString,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use windlass_proto::api::v1::Connection;

use super::{inherited::Inherited, mariadb, psql};
use crate::failure::Failure;

/// Environment variables and their values.
pub(crate) type Variables = Vec<(&'static str, String)>;

/// A native client.
pub(crate) struct NativeClient {
    /// Name as the API gives it.
    pub(crate) name: &'static str,
    /// Programs to look for, best first.
    pub(crate) programs: &'static [&'static str],
    /// Debian package that has it.
    pub(crate) package: &'static str,
    /// URI parameter that makes clients verify the server.
    pub(crate) uri_tls: &'static str,
    /// Name of the URI parameter for the CA's file.
    pub(crate) uri_ca: &'static str,
    /// How it is started.
    prepare: fn(&Connection) -> Result<Start, Failure>,
    /// Environment variables that name the connection; the CA's file if there is one.
    pub(crate) variables: fn(&Connection, Option<&str>) -> Variables,
    /// A command line for people, without the password.
    pub(crate) command_line: fn(&Connection, Option<&str>) -> String,
}

/// How a client is started.
pub(super) struct Start {
    pub(super) arguments: Vec<OsString>,
    pub(super) variables: Variables,
    /// Variables of the user that would lead elsewhere.
    pub(super) unset: &'static [&'static str],
    /// Kept open until the client has taken over.
    pub(super) files: Vec<Inherited>,
}

/// Every client.
pub(crate) const CLIENTS: &[NativeClient] = &[
    NativeClient {
        name: "psql",
        programs: &["psql"],
        package: "postgresql-client",
        uri_tls: "sslmode=verify-full",
        uri_ca: "sslrootcert",
        prepare: psql::start,
        variables: psql::variables,
        command_line: psql::command_line,
    },
    NativeClient {
        name: "mariadb",
        programs: &["mariadb", "mysql"],
        package: "mariadb-client",
        // Drivers differ; these are the names of MySQL Shell, which many follow.
        uri_tls: "ssl-mode=VERIFY_IDENTITY",
        uri_ca: "ssl-ca",
        prepare: mariadb::start,
        variables: mariadb::variables,
        command_line: mariadb::command_line,
    },
];

impl NativeClient {
    /// Where the program is.
    pub(crate) fn find(&self) -> Option<PathBuf> {
        let path = env::var_os("PATH")?;
        let directories: Vec<PathBuf> = env::split_paths(&path).collect();
        let candidates = self.programs.iter().flat_map(|program| directories.iter().map(move |dir| dir.join(program)));
        candidates.into_iter().find(|candidate| is_program(candidate))
    }
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// The client of a connection.
pub(crate) fn native_client(connection: &Connection) -> Result<&'static NativeClient, Failure> {
    CLIENTS.iter().find(|client| client.name == connection.client).ok_or_else(|| {
        Failure::Local(format!(
            "this version does not know the client {:?} of {}; upgrade it",
            connection.client, connection.engine
        ))
    })
}

/// Becomes the native client. Only returns if that fails.
pub(crate) fn exec(client: &NativeClient, connection: &Connection, arguments: &[OsString]) -> Failure {
    let Some(program) = client.find() else {
        return Failure::Local(format!(
            "{} is not installed or not in PATH; on Debian: apt install {}",
            client.programs[0], client.package
        ));
    };
    let start = match (client.prepare)(connection) {
        Ok(start) => start,
        Err(failure) => return failure,
    };
    let mut command = Command::new(&program);
    for name in start.unset {
        command.env_remove(name);
    }
    // The API key is this program's, not the client's.
    command.env_remove("WINDLASS_TOKEN");
    let error = command.args(start.arguments).args(arguments).envs(start.variables).exec();
    drop(start.files);
    Failure::Local(format!("cannot start {}: {error}", program.display()))
}
