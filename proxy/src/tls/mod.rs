//! TLS towards clients and towards databases.

mod backends;
mod member;
mod server;

pub use backends::Backends;
pub use server::ServerTls;
