//! The internal certificate authority: who is a host, who is a member, and who is the control plane itself.
//!
//! Owns: the CA key while it is open, what certificates say, reading the host out of a peer's certificate, and the decision
//! whether a join token admits a key. Invariants: no SQL here; only the public key of a request counts, every name is
//! ours; certificates are short-lived and revocation is looked up by the caller on each call.

mod authority;
mod enrol;
mod request;
mod server;
#[cfg(test)]
mod tests;

pub use authority::{Authority, SignedCert, StoredAuthority, Validity};
pub use enrol::{Admission, TokenFacts, TokenUse, admit};
pub use request::RequestedKey;
pub use server::keep_server_identity;
pub use windlass_kit::{
    tls::{PeerHost, peer_host, peer_proxy},
    token::{ApiKey, JoinToken},
};
