//! The connection to the control plane: dial, enrol, hello, routes, reports, certificates.
//!
//! The proxy dials; the control plane answers. Invariants: the proxy never gives up and never stops serving because the
//! control plane is away; what it must know to start again is on disk before it is used.

mod certificate;
mod enrol;
mod identity;
mod report;
mod session;
mod watch;

pub use certificate::first as first_certificate;
pub use enrol::{Enrolment, TokenSource};
pub use identity::ProxyIdentity;
pub use session::{Hello, Link, identity};
