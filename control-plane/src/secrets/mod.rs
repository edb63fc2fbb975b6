//! Secrets of the installation: sealing at rest, password verifiers, password generation.
//!
//! Invariants: nothing secret is stored in the clear; databases get verifiers, never passwords; no error or log line
//! quotes a secret.

mod key_file;
mod password;
mod sealer;
mod verifier;

pub use password::generate_password;
pub use sealer::Sealer;
pub use verifier::verifier;
