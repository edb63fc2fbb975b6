//! The SQLSTATE codes that a proxy has to tell apart or to give.

/// Five characters that name a class of error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState(pub &'static str);

impl SqlState {
    /// The server cannot be reached.
    pub const CANNOT_CONNECT: Self = Self("08001");
    /// The connection broke; a running transaction without a commit under way is lost.
    pub const CONNECTION_FAILURE: Self = Self("08006");
    /// The connection broke or the wait for a replica was ended: whether the transaction is durable is unknown.
    pub const RESOLUTION_UNKNOWN: Self = Self("08007");
    /// Bytes that break the protocol.
    pub const PROTOCOL_VIOLATION: Self = Self("08P01");
    /// Something that is not offered here.
    pub const NOT_SUPPORTED: Self = Self("0A000");
    /// The statement name is not known.
    pub const UNKNOWN_STATEMENT: Self = Self("26000");
    /// Not allowed to log in, for a reason other than the password.
    pub const INVALID_AUTHORIZATION: Self = Self("28000");
    /// Wrong user name or password.
    pub const INVALID_PASSWORD: Self = Self("28P01");
    /// No such database.
    pub const UNKNOWN_DATABASE: Self = Self("3D000");
    /// The statement name is taken.
    pub const DUPLICATE_STATEMENT: Self = Self("42P05");
    /// A limit on connections is reached.
    pub const TOO_MANY_CONNECTIONS: Self = Self("53300");
    /// A limit on sizes is reached.
    pub const LIMIT_EXCEEDED: Self = Self("54000");
    /// Ended on purpose, by a person or a switchover.
    pub const ADMIN_SHUTDOWN: Self = Self("57P01");
    /// Not ready to take connections now.
    pub const CANNOT_CONNECT_NOW: Self = Self("57P03");
    /// A bug.
    pub const INTERNAL: Self = Self("XX000");
}
