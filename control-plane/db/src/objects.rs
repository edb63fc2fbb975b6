//! Users, databases and extensions.
