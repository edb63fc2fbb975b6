//! SCRAM-SHA-256 (RFC 5802, RFC 7677) as PostgreSQL speaks it, for both sides, without passwords.
//!
//! The server's side checks a client against a stored verifier and, when the proof is right, learns the ClientKey. The
//! client's side logs in with such keys. So a proxy that knows verifiers lets a client in and logs in on its behalf at
//! any server that has the same verifier, and no clear password exists anywhere.
//! Invariants: comparisons of secrets take constant time; an unknown user takes the same course as a wrong password;
//! keys are never shown by `Debug`.

mod attributes;
mod client;
mod maths;
mod server;
mod verifier;

pub use client::{ClientFinal, ClientFirst};
pub use server::{Binding, CertificateHash, Outcome, ServerFirst};
pub use verifier::{Keys, Verifier};

/// Without channel binding.
pub const SCRAM_SHA_256: &str = "SCRAM-SHA-256";
/// With channel binding to the server's certificate.
pub const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";
/// The longest SCRAM message taken, in bytes.
pub const MAX_SCRAM: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677, section 3.
    const CLIENT_NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const CLIENT_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const CLIENT_FINAL: &str =
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn verifier() -> Verifier {
        use base64::Engine as _;
        let salt = base64::engine::general_purpose::STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        Keys::from_password(b"pencil", &salt, 4096).unwrap().1
    }

    #[test]
    fn the_servers_side_agrees_with_the_rfc_and_learns_the_keys() {
        let verifier = verifier();
        let (first, reply) =
            ServerFirst::answer(&verifier, &Binding::None, SCRAM_SHA_256, CLIENT_FIRST.as_bytes(), SERVER_NONCE)
                .unwrap();
        assert_eq!(reply, SERVER_FIRST);
        let Outcome::Right { keys, reply } = first.check(CLIENT_FINAL.as_bytes()).unwrap() else {
            panic!("the proof is right")
        };
        assert_eq!(reply, SERVER_FINAL);
        let salt_and_all = Keys::from_password(b"pencil", verifier.salt(), 4096).unwrap();
        assert!(keys == salt_and_all.0);
    }

    #[test]
    fn the_clients_side_logs_in_with_keys_alone() {
        let verifier = verifier();
        let keys = Keys::from_password(b"pencil", verifier.salt(), 4096).unwrap().0;
        let first = ClientFirst::new(CLIENT_NONCE);
        let (server, server_first) =
            ServerFirst::answer(&verifier, &Binding::None, SCRAM_SHA_256, first.message().as_bytes(), SERVER_NONCE)
                .unwrap();
        let (last, message) = first.answer(&keys, server_first.as_bytes()).unwrap();
        let Outcome::Right { reply, .. } = server.check(message.as_bytes()).unwrap() else { panic!("right") };
        last.check(reply.as_bytes()).unwrap();
        assert!(last.check(SERVER_FINAL.as_bytes()).is_err(), "a server without the ServerKey is not the server");
    }

    #[test]
    fn a_wrong_password_and_an_unknown_user_take_the_same_course() {
        let known = verifier();
        let unknown = Verifier::doomed(b"secret of the proxy", "nobody");
        assert_eq!(
            unknown.salt(),
            Verifier::doomed(b"secret of the proxy", "nobody").salt(),
            "asking twice does not tell who exists"
        );
        for verifier in [known, unknown] {
            let wrong = Keys::from_password(b"pencils", verifier.salt(), 4096).unwrap().0;
            let first = ClientFirst::new(CLIENT_NONCE);
            let (server, server_first) =
                ServerFirst::answer(&verifier, &Binding::None, SCRAM_SHA_256, first.message().as_bytes(), SERVER_NONCE)
                    .unwrap();
            let (_, message) = first.answer(&wrong, server_first.as_bytes()).unwrap();
            assert!(matches!(server.check(message.as_bytes()).unwrap(), Outcome::Wrong));
        }
    }

    #[test]
    fn channel_binding_is_checked_and_a_downgrade_refused() {
        let verifier = verifier();
        let binding = Binding::EndPoint(b"hash of the certificate".to_vec());
        let answer = |binding: &Binding, mechanism: &str, first: &str| {
            ServerFirst::answer(&verifier, binding, mechanism, first.as_bytes(), SERVER_NONCE).map(|_| ())
        };
        let bare = "n=,r=rOprNGfwEbeRWgbNEkqO";
        assert!(answer(&binding, SCRAM_SHA_256_PLUS, &format!("p=tls-server-end-point,,{bare}")).is_ok());
        assert!(answer(&binding, SCRAM_SHA_256_PLUS, &format!("p=tls-unique,,{bare}")).is_err());
        assert!(answer(&binding, SCRAM_SHA_256_PLUS, &format!("n,,{bare}")).is_err());
        assert!(answer(&binding, SCRAM_SHA_256, &format!("y,,{bare}")).is_err(), "somebody took PLUS out of the offer");
        assert!(answer(&binding, SCRAM_SHA_256, &format!("n,,{bare}")).is_ok());
        assert!(answer(&Binding::None, SCRAM_SHA_256, &format!("y,,{bare}")).is_ok());
        assert!(answer(&Binding::None, SCRAM_SHA_256_PLUS, &format!("p=tls-server-end-point,,{bare}")).is_err());
        assert!(answer(&Binding::None, "SCRAM-SHA-1", &format!("n,,{bare}")).is_err());

        // The right proof for another certificate's hash is a broken exchange, not a login.
        let first = format!("p=tls-server-end-point,,{bare}");
        let (server, _) =
            ServerFirst::answer(&verifier, &binding, SCRAM_SHA_256_PLUS, first.as_bytes(), SERVER_NONCE).unwrap();
        assert!(server.check(CLIENT_FINAL.as_bytes()).is_err());
    }

    #[test]
    fn the_verifier_is_the_one_that_postgresql_stores() {
        let stored = postgres_protocol::password::scram_sha_256(b"pencil");
        let verifier = Verifier::parse(&stored).unwrap();
        assert_eq!(verifier.to_string_for_storage(), stored);
        let again = Keys::from_password(b"pencil", verifier.salt(), 4096).unwrap().1;
        assert_eq!(again.to_string_for_storage(), stored);
        assert!(!format!("{verifier:?}").contains(&stored[20..40]));
        for bad in ["", "md5abc", "SCRAM-SHA-256$4096:AA==", "SCRAM-SHA-256$0:AA==$AA==:AA==", "SCRAM-SHA-256$x:$:"] {
            assert!(Verifier::parse(bad).is_err(), "{bad}");
        }
    }
}
