//! Stored answers of mutations.
