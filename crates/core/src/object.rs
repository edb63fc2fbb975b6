//! Objects inside an instance that Windlass manages: databases, users and extensions.

crate::words! {
    /// What an object inside an instance is.
    pub enum ObjectKind {
        /// A database.
        Database = "database",
        /// A user that may log in.
        User = "user",
        /// An extension of the engine, in one database.
        Extension = "extension",
    }
}

crate::words! {
    /// Where an object inside an instance stands.
    pub enum ObjectState {
        /// Not there yet.
        Pending = "PENDING",
        /// There.
        Ready = "READY",
        /// Being dropped.
        Dropping = "DROPPING",
        /// It could not be created; dropping or creating it again is allowed.
        Failed = "FAILED",
    }
}
