//! Password verifiers: what a database stores to check a password without knowing it.

use secrecy::{ExposeSecret, SecretString};
use sha1::{Digest, Sha1};
use windlass_core::engine::{Engine, VerifierKind};

/// The verifier of a password as the engine's `CREATE USER` takes it. For SCRAM the salt is fresh each time, so the
/// verifiers of two calls differ.
pub fn verifier(engine: Engine, password: &SecretString) -> String {
    let password = password.expose_secret().as_bytes();
    match engine.descriptor().verifier {
        VerifierKind::ScramSha256 => postgres_protocol::password::scram_sha_256(password),
        VerifierKind::MysqlNativePassword => {
            format!("*{}", hex::encode_upper(Sha1::digest(Sha1::digest(password))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postgres_gets_a_scram_verifier_with_a_fresh_salt() {
        let password = SecretString::from("secret");
        let (one, other) = (verifier(Engine::Postgres, &password), verifier(Engine::Postgres, &password));
        assert!(one.starts_with("SCRAM-SHA-256$4096:"), "{one}");
        assert_ne!(one, other);
    }

    #[test]
    fn mariadb_gets_the_hash_of_its_password_function() {
        // select password('secret') in MariaDB 10.11
        assert_eq!(
            verifier(Engine::Mariadb, &SecretString::from("secret")),
            "*14E65567ABDB5135D0CFD9A70B3032C179A49EE7"
        );
    }
}
