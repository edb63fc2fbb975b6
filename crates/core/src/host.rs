//! Hosts as users see them.

crate::words! {
    /// Whether a host's agent can be reached.
    pub enum HostState {
        /// Its agent polls.
        Online = "ONLINE",
        /// Its agent was silent for longer than the grace, or has not come yet.
        Offline = "OFFLINE",
        /// Its certificate was revoked.
        Revoked = "REVOKED",
    }
}
