//! The connection to the control plane.
//!
//! Owns: the host's identity and its renewal, dialling, and the conversation on a connection: hello, then parked polls,
//! reports, heartbeats and what replication says side by side. The agent dials out only. Why a long poll: the control plane needs no route to
//! the host, and an idle agent costs one parked call.
//!
//! Invariants: the end of a connection, however it comes, ends no command and no database; the agent reconnects for ever,
//! jittered, at the pace that the control plane sets. A join token is sent only to a server that shows the pinned CA,
//! and never once there is an identity.
//!
//! A crash in the middle: results and happenings that were not acknowledged are sent again (the latter not across a
//! restart of the agent); commands that were under way to it are delivered again.

mod cadence;
mod call;
mod certificates;
mod dial;
mod enrol;
mod happenings;
mod heartbeat;
mod hello;
mod identity;
mod poll;
mod reconnect;
mod renew;
pub mod replication;
mod report;
mod session;
mod status;

pub use certificates::LinkCertificates;
pub use dial::{Dialer, TlsDialer};
pub use enrol::{Enrolment, TokenSource};
pub use hello::HostDescription;
pub use identity::HostIdentity;
pub use reconnect::{Pace, identity as host_identity, keep_connected};
pub(crate) use replication::to_wire;
pub use replication::{NoReplication, ReplicationLink, ReplicationTarget};
pub use session::{Link, LinkParts, LoadSource};
pub use status::LinkStatus;
