//! PostgreSQL's protocol.

use std::sync::Arc;

use windlass_core::Error;

use crate::{Shared, accept::Client};

/// Serves one client until it leaves.
///
/// # Errors
/// Why the conversation broke, for the log.
pub async fn serve(client: Client, _shared: &Arc<Shared>) -> Result<(), Error> {
    drop(client);
    Err(Error::unavailable("PostgreSQL clients are not served yet"))
}
