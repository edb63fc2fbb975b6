//! Connections as text: URIs and shell words.

use windlass_proto::api::v1::Connection;

use super::client::NativeClient;

/// The URI of the API, with the password (if the connection still has it), TLS and the CA's file put in.
pub(crate) fn uri(client: &NativeClient, connection: &Connection, ca_file: Option<&str>) -> String {
    let mut uri = connection.uri.clone();
    if !connection.password.is_empty()
        && let Some((before, after)) = uri.split_once('@')
    {
        uri = format!("{before}:{}@{after}", percent_encode(&connection.password));
    }
    let mut parameters = vec![client.uri_tls.to_owned()];
    parameters.extend(ca_file.map(|file| format!("{}={}", client.uri_ca, percent_encode(file))));
    let joint = if uri.contains('?') { '&' } else { '?' };
    format!("{uri}{joint}{}", parameters.join("&"))
}

/// `export NAME=value` lines for a shell.
pub(crate) fn exports(variables: &[(&'static str, String)]) -> String {
    variables.iter().map(|(name, value)| format!("export {name}={}", quote(value))).collect::<Vec<_>>().join("\n")
}

/// One word of a POSIX shell.
pub(crate) fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// Everything but the unreserved characters of RFC 3986 escaped.
fn percent_encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{super::client::CLIENTS, *};

    #[test]
    fn the_password_and_the_ca_are_put_into_the_uri_escaped() {
        let connection = Connection {
            uri: "postgresql://app@db.example:5500/app".to_owned(),
            password: "a/b@c".to_owned(),
            ..Default::default()
        };
        assert_eq!(
            uri(&CLIENTS[0], &connection, Some("/tmp/ca file")),
            "postgresql://app:a%2Fb%40c@db.example:5500/app?sslmode=verify-full&sslrootcert=%2Ftmp%2Fca%20file"
        );
        let hidden = Connection { password: String::new(), ..connection };
        assert_eq!(uri(&CLIENTS[0], &hidden, None), format!("{}?sslmode=verify-full", hidden.uri));
    }

    #[test]
    fn shell_words_survive_a_shell() {
        assert_eq!(quote("plain-1.2"), "plain-1.2");
        assert_eq!(quote("it's"), "'it'\\''s'");
        assert_eq!(exports(&[("A", "x y".to_owned())]), "export A='x y'");
    }
}
