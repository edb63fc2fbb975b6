//! The things that a text of SQL may do to its session.

/// Why a client has to keep its server connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pin {
    /// `LISTEN`.
    Listen,
    /// A temporary table, view or sequence.
    Temporary,
    /// An advisory lock of the session.
    AdvisoryLock,
    /// A cursor `WITH HOLD`.
    HoldCursor,
    /// `PREPARE` in SQL.
    SqlPrepare,
    /// A change of settings that cannot be followed.
    Settings,
    /// A library was loaded.
    Library,
    /// A text too long to be read.
    Unread,
}

impl Pin {
    /// For people.
    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::Listen => "LISTEN",
            Self::Temporary => "temporary tables",
            Self::AdvisoryLock => "advisory locks",
            Self::HoldCursor => "a cursor WITH HOLD",
            Self::SqlPrepare => "PREPARE in SQL",
            Self::Settings => "settings that cannot be followed",
            Self::Library => "a loaded library",
            Self::Unread => "a script too long to be followed",
        }
    }
}

/// The value of a setting.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Value {
    /// What stands behind `SET`, to be run again as it is.
    Sql(Box<str>),
    /// The value itself, as in the start of a session.
    Raw(Box<str>),
}

/// What a client must not set beyond `LOUD`.
pub(crate) const QUIET: &str = "client_min_messages";
pub(crate) const LOUD: &str = "warning";

impl Value {
    /// Whether this value of the setting keeps warnings from the client.
    pub(crate) fn silences(&self, name: &str) -> bool {
        let (Self::Sql(text) | Self::Raw(text)) = self;
        let text = text.to_ascii_lowercase();
        name == QUIET && ["error", "fatal", "panic"].iter().any(|level| text.contains(level))
    }
}

/// One thing that a text does to its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// A setting, by its name in lower case.
    Set(Box<str>, Value),
    /// One that texts are read by, or may be, until the transaction ends.
    Local,
    /// Back to the default.
    Reset(Box<str>),
    /// All back to their defaults.
    ResetAll,
    /// The session is as new.
    DiscardAll,
    /// Forget a prepared statement.
    Deallocate(Box<[u8]>),
    /// Forget all prepared statements.
    DeallocateAll,
    /// It cannot be moved from here on.
    Pin(Pin),
}

impl Effect {
    /// Whether prepared statements are forgotten.
    pub(crate) fn forgets(&self) -> bool {
        match self {
            Self::DiscardAll | Self::Deallocate(_) | Self::DeallocateAll => true,
            Self::Set(..) | Self::Local | Self::Reset(_) | Self::ResetAll | Self::Pin(_) => false,
        }
    }
}

/// What the meaning of a text depends on and a server reports, so that it is known also within a transaction.
pub(crate) const REPORTED: [&str; 5] =
    ["timezone", "datestyle", "intervalstyle", "client_encoding", "standard_conforming_strings"];
/// The server reads anew when it changes, but refuses if the columns are others then.
pub(crate) const PATH: &str = "search_path";

/// Whether the meaning of a text depends on a setting, by its name in lower case.
pub(crate) fn is_read_by(name: &str) -> bool {
    name == PATH || REPORTED.contains(&name)
}
