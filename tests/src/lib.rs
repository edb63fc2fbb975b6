//! Fixtures for the suites that need more than one crate: whole installations made of the real programs.
