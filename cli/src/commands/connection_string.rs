//! `windlass connection-string`

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use windlass_kit::files::{self, Access};

use super::connect::Who;
use crate::{
    connect::{self, text},
    context::Context,
    failure::Failure,
    output::print,
};

#[derive(Args)]
pub(crate) struct ConnectionStringCommand {
    /// The instance
    name: String,
    #[command(flatten)]
    who: Who,
    /// uri for drivers, env as shell exports, client as a command line of the native client
    #[arg(long, short, value_enum, default_value = "uri")]
    format: Form,
    /// Include the password
    #[arg(long)]
    password: bool,
    /// Write the certificate of the CA to this file and refer to it
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Form {
    Uri,
    Env,
    #[value(alias = "psql", alias = "mariadb")]
    Client,
}

impl ConnectionStringCommand {
    pub(super) async fn run(self, cx: &Context) -> Result<(), Failure> {
        let mut connection = self.who.connection(cx, &self.name).await?;
        if !self.password {
            connection.password.clear();
        }
        let ca_file = match &self.ca_file {
            Some(path) => {
                let path = std::path::absolute(path)
                    .map_err(|error| Failure::Local(format!("cannot tell where {} is: {error}", path.display())))?;
                files::replace(&path, connection.ca_pem.as_bytes(), Access::Public)
                    .map_err(|error| Failure::Local(error.message))?;
                Some(path.display().to_string())
            }
            None => {
                cx.out.note("the server's certificate is from Windlass's own CA; --ca-file FILE writes that out");
                None
            }
        };
        let client = connect::native_client(&connection)?;
        print(&match self.format {
            Form::Uri => text::uri(client, &connection, ca_file.as_deref()),
            Form::Env => text::exports(&(client.variables)(&connection, ca_file.as_deref())),
            Form::Client => (client.command_line)(&connection, ca_file.as_deref()),
        })
    }
}
