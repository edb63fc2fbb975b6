//! The wire contracts of Windlass: what the .proto files say, as Rust. No logic.
//!
//! JSON of the messages is proto3's canonical mapping with the field names as written in the .proto files; it is what
//! the CLI prints with `-o json`.

#![allow(missing_docs, unreachable_pub, clippy::all, clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

/// The descriptor set of every file, for gRPC reflection and for tests that walk the API.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The public API.
pub mod api {
    /// Version 1.
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/windlass.api.v1.rs"));
        include!(concat!(env!("OUT_DIR"), "/windlass.api.v1.serde.rs"));
    }
}

/// What agents and the control plane say to each other.
pub mod agent {
    /// Version 1.
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/windlass.agent.v1.rs"));
        include!(concat!(env!("OUT_DIR"), "/windlass.agent.v1.serde.rs"));
    }
}

/// What proxies and the control plane say to each other.
pub mod proxy {
    /// Version 1.
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/windlass.proxy.v1.rs"));
        include!(concat!(env!("OUT_DIR"), "/windlass.proxy.v1.serde.rs"));
    }
}
