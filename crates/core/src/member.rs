//! A member: one server process of an instance on one host, as its agent reports it.

crate::words! {
    /// What an agent says of a member's process. Also the text of `Process` in the agent's protocol.
    pub enum Process {
        /// No report yet.
        Unknown = "UNKNOWN",
        /// The host has neither a process nor a data directory for it.
        Absent = "ABSENT",
        /// The data directory is there, nothing runs.
        Stopped = "STOPPED",
        /// Coming up: recovering, or not yet accepting connections.
        Starting = "STARTING",
        /// Accepts connections.
        Running = "RUNNING",
        /// It should run and does not come up.
        Failed = "FAILED",
    }
}

crate::words! {
    /// What a member is to its instance.
    pub enum MemberRole {
        /// Takes writes.
        Primary = "primary",
        /// Follows the primary.
        Replica = "replica",
    }
}
