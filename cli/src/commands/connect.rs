//! `windlass connect`

use std::{collections::BTreeMap, ffi::OsString};

use clap::Args;
use windlass_core::{ErrorKind, Reason};
use windlass_proto::api::v1 as pb;

use crate::{
    connect,
    context::Context,
    failure::{Failure, Refusal},
};

#[derive(Args)]
pub(crate) struct ConnectCommand {
    /// The instance
    name: String,
    #[command(flatten)]
    who: Who,
    /// Arguments of the native client, after --
    #[arg(last = true, value_name = "CLIENT ARGUMENTS")]
    arguments: Vec<OsString>,
}

/// As whom and to what to connect.
#[derive(Args)]
pub(crate) struct Who {
    /// The user; the administrator if not given
    #[arg(long, short = 'U', value_name = "USER")]
    user: Option<String>,
    /// The database; the default one if not given
    #[arg(long, short, value_name = "DATABASE")]
    database: Option<String>,
    /// Past the proxies, to the members themselves
    #[arg(long)]
    direct: bool,
    /// To a replica, for reads that may be a little stale
    #[arg(long)]
    read_only: bool,
}

impl Who {
    /// Address and credentials from the API.
    pub(super) async fn connection(&self, cx: &Context, name: &str) -> Result<pb::Connection, Failure> {
        let request = pb::GetConnectionRequest {
            name: cx.instance(name).await?,
            user: self.user.clone().unwrap_or_default(),
            database: self.database.clone().unwrap_or_default(),
            direct: self.direct,
            read_only: self.read_only,
        };
        let api = cx.api().await?;
        api.call(async || api.instances().get_connection(request.clone()).await).await
    }
}

impl ConnectCommand {
    pub(super) async fn run(self, cx: &Context) -> Result<(), Failure> {
        let connection = self.who.connection(cx, &self.name).await?;
        at_work(&connection, &self.name)?;
        let client = connect::native_client(&connection)?;
        Err(connect::exec(client, &connection, &self.arguments))
    }
}

/// Refuses an instance that is at rest: the client could only say that nobody answers.
fn at_work(connection: &pb::Connection, name: &str) -> Result<(), Failure> {
    let state = connection.state();
    if !matches!(state, pb::instance::State::Stopped | pb::instance::State::Suspended) {
        return Ok(());
    }
    let state = state.as_str_name();
    Err(Failure::Refused(Box::new(Refusal {
        kind: ErrorKind::FailedPrecondition,
        reason: Reason::StateForbids.to_string(),
        message: format!("instance {name} is {state}; start it with: windlass instance start {name}"),
        violations: Vec::new(),
        metadata: BTreeMap::from([("state".to_owned(), state.to_owned())]),
    })))
}
