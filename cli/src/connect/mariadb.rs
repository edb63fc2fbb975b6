//! mariadb: everything goes by an option file without a name, because its environment variable for passwords is
//! deprecated and it has none for the rest.

use windlass_proto::api::v1::Connection;

use super::{
    client::{Start, Variables},
    inherited::Inherited,
    text::quote,
};
use crate::failure::Failure;

pub(super) fn start(connection: &Connection) -> Result<Start, Failure> {
    let ca = Inherited::new(&connection.ca_pem)?;
    let options = Inherited::new(&option_file(connection, &ca.path()))?;
    Ok(Start {
        // Must come first.
        arguments: vec![format!("--defaults-extra-file={}", options.path()).into()],
        variables: Vec::new(),
        unset: &["MYSQL_PWD", "MYSQL_HOST", "MYSQL_TCP_PORT", "MYSQL_UNIX_PORT"],
        files: vec![ca, options],
    })
}

fn option_file(connection: &Connection, ca_file: &str) -> String {
    let Connection { host, port, user, password, database, .. } = connection;
    let mut text = format!(
        "[client]\nprotocol=tcp\nhost={}\nport={port}\nuser={}\npassword={}\nssl-ca={}\nssl-verify-server-cert\n",
        value(host),
        value(user),
        value(password),
        value(ca_file)
    );
    if !database.is_empty() {
        text.push_str(&format!("[mysql]\ndatabase={}\n", value(database)));
    }
    text
}

/// A value of an option file, with what has a meaning there escaped.
fn value(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

pub(super) fn variables(connection: &Connection, ca_file: Option<&str>) -> Variables {
    let mut variables = vec![("MYSQL_HOST", connection.host.clone()), ("MYSQL_TCP_PORT", connection.port.to_string())];
    variables.push(("MYSQL_USER", connection.user.clone()));
    variables.push(("MYSQL_DATABASE", connection.database.clone()));
    variables.extend(ca_file.map(|file| ("MYSQL_SSL_CA", file.to_owned())));
    if !connection.password.is_empty() {
        variables.push(("MYSQL_PWD", connection.password.clone()));
    }
    variables
}

pub(super) fn command_line(connection: &Connection, ca_file: Option<&str>) -> String {
    let Connection { host, port, user, database, .. } = connection;
    let ca = ca_file.map_or_else(String::new, |file| format!(" --ssl-ca={}", quote(file)));
    let (host, user, database) = (quote(host), quote(user), quote(database));
    format!("mariadb --host={host} --port={port} --user={user} --password --ssl-verify-server-cert{ca} {database}")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// The real client reads back what we wrote, from a file without a name.
    #[test]
    fn the_client_reads_every_value_as_it_was() {
        for password in ["plain", "a b#c;d", "q\"'\\n\\", "tab\tnew\nline", "=[x]", ""] {
            let connection = Connection {
                host: "127.0.0.1".to_owned(),
                port: 3306,
                user: "app".to_owned(),
                password: password.to_owned(),
                ..Default::default()
            };
            let options = Inherited::new(&option_file(&connection, "/dev/fd/9")).expect("temporary file");
            let output = Command::new("my_print_defaults")
                .arg(format!("--defaults-file={}", options.path()))
                .arg("client")
                .output()
                .expect("my_print_defaults of the MariaDB packages");
            let text = String::from_utf8(output.stdout).expect("UTF-8");
            let expected = format!("--password={password}\n--ssl-ca=/dev/fd/9\n");
            assert!(text.contains(&expected), "{password:?}: {text} {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}
