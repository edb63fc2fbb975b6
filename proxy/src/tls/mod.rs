//! TLS towards clients and towards databases.

mod backends;
mod files;
mod member;
mod server;
mod stored;

pub use backends::Backends;
pub use files::CertificateFiles;
pub use server::ServerTls;
pub use stored::StoredCertificate;
