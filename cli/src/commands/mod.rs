//! The commands: one noun a file. Each parses its flags, calls the API and prints.

mod completion;
mod connect;
mod connection_string;
mod doctor;
mod engine;
mod event;
mod host;
mod host_token;
mod instance;
mod instance_change;
mod instance_create;
mod instance_move;
mod key;
mod object;
mod operation;
mod param;
mod profile;
mod project;
mod proxy;
mod replica;
mod settle;
mod whoami;

use clap::Subcommand;

use crate::{context::Context, failure::Failure};

/// What to do.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Tenants: instances, keys and quota of their own
    #[command(subcommand, alias = "projects")]
    Project(project::ProjectCommand),
    /// Database services
    #[command(subcommand, visible_alias = "instances")]
    Instance(Box<instance::InstanceCommand>),
    /// Replicas of an instance
    #[command(subcommand, alias = "replicas")]
    Replica(replica::ReplicaCommand),
    /// Open the native client (psql, mariadb) on an instance
    Connect(connect::ConnectCommand),
    /// Print how to connect to an instance
    ConnectionString(connection_string::ConnectionStringCommand),
    /// Parameters of an instance
    #[command(subcommand, visible_alias = "params")]
    Param(param::ParamCommand),
    /// Databases of an instance
    #[command(subcommand, alias = "databases")]
    Database(object::DatabaseCommand),
    /// Users of an instance
    #[command(subcommand, alias = "users")]
    User(object::UserCommand),
    /// Extensions of an instance
    #[command(subcommand, alias = "extensions")]
    Extension(object::ExtensionCommand),
    /// Long-running operations
    #[command(subcommand, visible_alias = "operations")]
    Operation(operation::OperationCommand),
    /// What happened
    #[command(subcommand, alias = "events")]
    Event(event::EventCommand),
    /// Machines that run databases
    #[command(subcommand, visible_alias = "hosts")]
    Host(host::HostCommand),
    /// Programs that bring clients to their instances
    #[command(subcommand, alias = "proxies")]
    Proxy(proxy::ProxyCommand),
    /// Engines and versions that the hosts have
    #[command(subcommand, alias = "engines")]
    Engine(engine::EngineCommand),
    /// API keys
    #[command(subcommand, alias = "keys")]
    Key(key::KeyCommand),
    /// Show the key in use and what it may do
    Whoami,
    /// Check the connection, the key, the hosts and this machine, each with a remedy
    Doctor,
    /// Installations that this command knows
    #[command(subcommand, alias = "profiles")]
    Profile(profile::ProfileCommand),
    /// Print the completion script of a shell
    Completion(completion::CompletionCommand),
}

impl Command {
    pub(crate) async fn run(self, cx: &Context) -> Result<(), Failure> {
        match self {
            Self::Project(command) => command.run(cx).await,
            Self::Instance(command) => command.run(cx).await,
            Self::Replica(command) => command.run(cx).await,
            Self::Connect(command) => command.run(cx).await,
            Self::ConnectionString(command) => command.run(cx).await,
            Self::Param(command) => command.run(cx).await,
            Self::Database(command) => command.run(cx).await,
            Self::User(command) => command.run(cx).await,
            Self::Extension(command) => command.run(cx).await,
            Self::Operation(command) => command.run(cx).await,
            Self::Event(command) => command.run(cx).await,
            Self::Host(command) => command.run(cx).await,
            Self::Proxy(command) => command.run(cx).await,
            Self::Engine(command) => command.run(cx).await,
            Self::Key(command) => command.run(cx).await,
            Self::Whoami => whoami::run(cx).await,
            Self::Doctor => doctor::run(cx).await,
            Self::Profile(command) => command.run(cx),
            Self::Completion(command) => command.run(),
        }
    }
}
