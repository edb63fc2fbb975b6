//! Proxies as users see them, and what a join token is for.

crate::words! {
    /// Whether a proxy is connected.
    pub enum ProxyState {
        /// It asks for routes.
        Online = "ONLINE",
        /// It was silent for longer than its polls are held, or has not come yet.
        Offline = "OFFLINE",
        /// Its certificate was revoked.
        Revoked = "REVOKED",
    }
}

crate::words! {
    /// What may enrol with a join token.
    pub enum TokenPurpose {
        /// A machine that runs databases.
        Host = "host",
        /// A proxy.
        Proxy = "proxy",
    }
}
