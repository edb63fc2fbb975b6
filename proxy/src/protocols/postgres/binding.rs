//! Binding a login to the TLS connection that it goes through (RFC 5929, `tls-server-end-point`): the client proves which
//! certificate it saw, so that nobody can stand between with another one, even one that the client would believe.

use windlass_wire_pg::scram::{Binding, CertificateHash};

/// What a client that was shown this certificate binds to; nothing if its signature's hash is not told by its algorithm.
pub(super) fn of_certificate(certificate: &[u8]) -> Binding {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else { return Binding::None };
    let hash = match parsed.signature_algorithm.algorithm.to_id_string().as_str() {
        // ECDSA, then RSA; the weak hashes stand for SHA-256.
        "1.2.840.10045.4.3.2" | "1.2.840.113549.1.1.11" | "1.2.840.113549.1.1.5" | "1.2.840.113549.1.1.4" => {
            CertificateHash::Sha256
        }
        "1.2.840.10045.4.3.3" | "1.2.840.113549.1.1.12" => CertificateHash::Sha384,
        "1.2.840.10045.4.3.4" | "1.2.840.113549.1.1.13" => CertificateHash::Sha512,
        _ => return Binding::None,
    };
    Binding::to_certificate(certificate, hash)
}
