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
    let (host, port) = places(connection);
    let mut variables = vec![
        ("PGHOST", host),
        ("PGPORT", port),
        ("PGUSER", connection.user.clone()),
        ("PGDATABASE", connection.database.clone()),
        ("PGSSLMODE", "verify-full".to_owned()),
    ];
    variables.extend(ca_file.map(|file| ("PGSSLROOTCERT", file.to_owned())));
    if !connection.session_attributes.is_empty() {
        variables.push(("PGTARGETSESSIONATTRS", connection.session_attributes.clone()));
    }
    if !connection.password.is_empty() {
        variables.push(("PGPASSWORD", connection.password.clone()));
    }
    variables
}

pub(super) fn command_line(connection: &Connection, ca_file: Option<&str>) -> String {
    let Connection { user, database, session_attributes, .. } = connection;
    let (host, port) = places(connection);
    let ca = ca_file.map_or_else(String::new, |file| format!(" sslrootcert={file}"));
    let attributes = match session_attributes.as_str() {
        "" => String::new(),
        attributes => format!(" target_session_attrs={attributes}"),
    };
    let target = format!("host={host} port={port} user={user} dbname={database} sslmode=verify-full{ca}{attributes}");
    format!("psql {}", quote(&target))
}

/// Hosts and ports as libpq takes several: tried in order.
fn places(connection: &Connection) -> (String, String) {
    if connection.addresses.is_empty() {
        return (connection.host.clone(), connection.port.to_string());
    }
    let (hosts, ports): (Vec<_>, Vec<_>) =
        connection.addresses.iter().map(|address| (address.host.clone(), address.port.to_string())).unzip();
    (hosts.join(","), ports.join(","))
}
