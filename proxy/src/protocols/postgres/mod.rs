//! PostgreSQL's protocol: clients' sessions, and connections to servers.
//!
//! A client's way: `startup` (encryption, first packet), `login` (which instance, SCRAM), `session` (bytes, for as long
//! as it stays). `server` makes connections, `sessions` knows who is in, `sql` reads what matters of statements.
//! Invariants: a client that has not proven who it is costs a bounded number of bytes and a bounded time; no password
//! is ever known here, only what stands for it.

mod binding;
mod cancel;
mod greeting;
mod login;
mod parameters;
mod refusal;
mod server;
mod session;
mod sessions;
mod sql;
mod startup;
mod state;
mod stream;
mod verifiers;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use windlass_core::Error;

pub use self::state::Postgres;
use self::{
    login::Guest,
    startup::{Unclear, Wish},
};
use crate::{Shared, accept::Client};

/// Serves one client until it leaves.
///
/// # Errors
/// Why the conversation broke, for the log.
pub async fn serve(client: Client, shared: &Arc<Shared>) -> Result<(), Error> {
    // Boxed, for the login is short and its futures are large, while a session is long.
    let Some(session) = Box::pin(admit(client, shared)).await? else { return Ok(()) };
    session.run().await
}

async fn admit(client: Client, shared: &Arc<Shared>) -> Result<Option<Box<session::Session>>, Error> {
    let Client { stream, entrance, startup: patience, .. } = client;
    stream.set_nodelay(true).map_err(|error| Error::unavailable("the client is gone").with_source(error))?;
    match startup::wish(stream, &shared.tls, shared.config.plaintext).await {
        Ok(Wish::Nothing) => Ok(None),
        Ok(Wish::Cancel(key)) => {
            shared.postgres.sessions().cancel(key);
            Ok(None)
        }
        Ok(Wish::Session { stream, startup, sni, binding }) => {
            let guest =
                Guest { entrance: &entrance, sni: sni.as_deref(), startup: &startup, binding: &binding, patience };
            login::enter(shared, guest, stream).await.map(Some)
        }
        Err(Unclear { refusal, stream: Some(mut stream) }) => Err(login::tell(&mut stream, &refusal).await),
        Err(Unclear { refusal, stream: None }) => Err(Error::unavailable(refusal.message())),
    }
}
