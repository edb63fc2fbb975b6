//! Events: what happened, for people.

crate::words! {
    /// How much an event matters.
    pub enum Severity {
        /// As intended.
        Info = "INFO",
        /// Something went wrong and is being mended, or may go wrong.
        Warning = "WARNING",
        /// Something is broken.
        Error = "ERROR",
    }
}
