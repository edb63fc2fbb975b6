//! The certificate authority and host certificates.
