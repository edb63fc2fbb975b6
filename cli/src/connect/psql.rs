//! psql: everything goes by environment variables of libpq.

use windlass_proto::api::v1::Connection;

use super::{
    client::{Start, Variables},
    inherited::Inherited,
    text::quote,
};
use crate::failure::Failure;

pub(super) fn start(connection: &Connection) -> Result<Start, Failure> {
    let ca = Inherited::new(&connection.ca_pem)?;
    Ok(Start {
        arguments: Vec::new(),
        variables: variables(connection, Some(&ca.path())),
        unset: &["PGHOSTADDR", "PGSERVICE", "PGSERVICEFILE", "PGPASSFILE", "PGSSLCERT", "PGSSLKEY", "PGREQUIRESSL"],
        files: vec![ca],
    })
}

pub(super) fn variables(connection: &Connection, ca_file: Option<&str>) -> Variables {
    let mut variables = vec![
        ("PGHOST", connection.host.clone()),
        ("PGPORT", connection.port.to_string()),
        ("PGUSER", connection.user.clone()),
        ("PGDATABASE", connection.database.clone()),
        ("PGSSLMODE", "verify-full".to_owned()),
    ];
    variables.extend(ca_file.map(|file| ("PGSSLROOTCERT", file.to_owned())));
    if !connection.password.is_empty() {
        variables.push(("PGPASSWORD", connection.password.clone()));
    }
    variables
}

pub(super) fn command_line(connection: &Connection, ca_file: Option<&str>) -> String {
    let Connection { host, port, user, database, .. } = connection;
    let ca = ca_file.map_or_else(String::new, |file| format!(" sslrootcert={file}"));
    let target = format!("host={host} port={port} user={user} dbname={database} sslmode=verify-full{ca}");
    format!("psql {}", quote(&target))
}
